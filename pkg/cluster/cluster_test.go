package cluster_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
)

func TestVersionIsOneRequest(t *testing.T) {
	var requests []string
	answer, status := `{"gitVersion": "v1.31.1+rke2r1"}`, http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Method+" "+r.URL.Path)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	client, err := corev1client.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster.Cluster{Config: &rest.Config{Host: "https://10.0.0.1:6443"}, Client: client}
	if got, err := c.Version(t.Context()); err != nil || got != "v1.31.1+rke2r1" || strings.Join(requests, ", ") != "GET /version" {
		t.Errorf("version %q, error %v, requests %q", got, err, requests)
	}
	if url, err := c.SupervisorURL(t.Context()); err != nil || url.String() != "https://10.0.0.1:9345" {
		t.Errorf("the supervisor of RKE2 is %s, error %v", url, err)
	}
	status = http.StatusForbidden
	if _, err := c.Version(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("error %v", err)
	}
	if url, err := c.SupervisorURL(t.Context()); err != nil || url.String() != "https://10.0.0.1:6443" {
		t.Errorf("the supervisor of what does not tell its version is %s, error %v", url, err)
	}
}
