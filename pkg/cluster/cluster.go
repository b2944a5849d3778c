// Package cluster reads the facts of a cluster that joining depends on: the CA
// certificates that a node gets, the address that it dials, the version, and the
// server nodes.
package cluster

import (
	"context"
	"strings"

	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// Cluster is the cluster of a kubeconfig context.
type Cluster struct {
	// Config is the connection in the kubeconfig: server, CA and credentials.
	Config *rest.Config
	// Client is a client for that server.
	Client corev1client.CoreV1Interface
}

// Version is the release of an API server or of a node, such as v1.31.1+k3s1.
type Version string

// Version asks the API server for its version, in one request.
func (c *Cluster) Version(ctx context.Context) (Version, error) {
	info, err := discovery.NewDiscoveryClient(c.Client.RESTClient()).ServerVersionWithContext(ctx)
	if err != nil {
		return "", err
	}
	return Version(info.GitVersion), nil
}

// Distribution reads the distribution from the build metadata of the version, in
// which K3s and RKE2 put their names (K3s: scripts/version.sh).
func (v Version) Distribution() supervisor.Distribution {
	_, build, _ := strings.Cut(string(v), "+")
	for _, d := range []supervisor.Distribution{supervisor.K3s, supervisor.RKE2} {
		if strings.HasPrefix(build, string(d)) {
			return d
		}
	}
	return supervisor.Other
}
