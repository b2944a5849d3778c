package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
)

// Distribution is the kind of Kubernetes that a server is.
type Distribution string

const (
	// K3s is the one that the plugin is named for.
	K3s Distribution = "k3s"
	// RKE2 is the same code under another name.
	RKE2 Distribution = "rke2"
	// Other is a Kubernetes that does not know K3s tokens.
	Other Distribution = "other"
)

// Version is what the API server says of itself.
type Version struct {
	// GitVersion is the release, such as v1.31.1+k3s1.
	GitVersion string
}

// Distribution reads the kind of Kubernetes off the build metadata of its
// version, where K3s and RKE2 put their names.
func (v Version) Distribution() Distribution {
	_, build, _ := strings.Cut(v.GitVersion, "+")
	switch {
	case strings.HasPrefix(build, "k3s"):
		return K3s
	case strings.HasPrefix(build, "rke2"):
		return RKE2
	}
	return Other
}

// DefaultGroup is the extra group of a token that joins nodes
// (NodeBootstrapTokenAuthGroup in K3s's pkg/kubeadm).
func (d Distribution) DefaultGroup() string {
	if d == RKE2 {
		return "system:bootstrappers:rke2:default-node-token"
	}
	return "system:bootstrappers:k3s:default-node-token"
}

// SupervisorPort is where a server of that kind waits for joining nodes.
func (d Distribution) SupervisorPort() string {
	if d == RKE2 {
		return "9345"
	}
	return "6443"
}

// FetchVersion asks the API server for its version: one request, no discovery.
func FetchVersion(ctx context.Context, client rest.Interface) (Version, error) {
	body, err := client.Get().AbsPath("/version").SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return Version{}, err
	}
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil || info.GitVersion == "" {
		return Version{}, errors.New("the server's answer to /version names no version: is it a Kubernetes API server?")
	}
	return Version{GitVersion: info.GitVersion}, nil
}
