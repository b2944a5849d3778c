package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/client-go/rest"
)

// FetchUser asks the API server who it takes the client for: the user name.
// Kubernetes has answered that since v1.28, to whoever has authenticated.
func FetchUser(ctx context.Context, client rest.Interface) (string, error) {
	answer, err := client.Post().AbsPath("/apis/authentication.k8s.io/v1/selfsubjectreviews").
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").
		Body([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)).
		Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var review struct {
		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	if err := json.Unmarshal(answer, &review); err != nil {
		return "", fmt.Errorf("the server's answer to a SelfSubjectReview is not JSON: %w", err)
	}
	return review.Status.UserInfo.Username, nil
}
