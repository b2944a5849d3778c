// Package cluster reads the facts of a cluster that joining depends on: the CA
// certificates that a node gets, the address that it dials, the version, and the
// server nodes.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const (
	hintURL    = "pass --url with the address that nodes dial"
	hintServer = "name a K3s server itself, with --server, or for create with --url"
)

// Cluster is the cluster of a kubeconfig context.
type Cluster struct {
	// Config is the connection in the kubeconfig: server, CA and credentials. The
	// content of its TLS files is loaded (rest.LoadTLSFiles).
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
	switch {
	case strings.Contains(string(v), "+k3s"):
		return supervisor.K3s
	case strings.Contains(string(v), "+rke2"):
		return supervisor.RKE2
	}
	return supervisor.Other
}

// SupervisorURL returns the supervisor of the kubeconfig's server. A server that does
// not tell its version counts as K3s.
func (c *Cluster) SupervisorURL(ctx context.Context) (supervisor.URL, error) {
	version, _ := c.Version(ctx)
	return c.supervisorURL(version.Distribution())
}

// JoinURL returns the address that a joining node dials: the given one or, if that
// is the zero value, the kubeconfig's. The warning says why nodes may not reach a
// supervisor there; it is mostly empty.
func (c *Cluster) JoinURL(given supervisor.URL, d supervisor.Distribution) (url supervisor.URL, warning string, err error) {
	own, err := c.supervisorURL(d)
	if err != nil && given == (supervisor.URL{}) {
		return given, "", err
	}
	url = cmp.Or(given, own)
	switch {
	case url.Host() == "localhost" || net.ParseIP(url.Host()).IsLoopback():
		warning = fmt.Sprintf("%s leads a node to itself; %s", url.Host(), hintURL)
	case url.Host() == os.Getenv("KUBERNETES_SERVICE_HOST"), strings.Contains(url.Host()+".", ".svc."): // of a Pod
		warning = fmt.Sprintf("%s is an address within the cluster; %s", url.Host(), hintURL)
	case url.Port() != d.Port() && url.Port() != own.Port(): // own is that of a load balancer, perhaps
		warning = fmt.Sprintf("nodes dial port %s; the supervisor's port is %s, unless another one is forwarded to it", url.Port(), d.Port())
	}
	return url, warning, nil
}

// supervisorURL returns the supervisor of the kubeconfig's server. On RKE2 it has
// another port than the API. The server may be 0.0.0.0, which k3d writes for the
// user's own machine.
func (c *Cluster) supervisorURL(d supervisor.Distribution) (supervisor.URL, error) {
	url, err := supervisor.ParseURL(strings.Replace(c.Config.Host, "//0.0.0.0:", "//127.0.0.1:", 1))
	if err != nil {
		return url, hint.Wrap(fmt.Errorf("kubeconfig: %w", err), hintServer)
	}
	if d == supervisor.RKE2 {
		return newURL(url.Host(), d.Port())
	}
	return url, nil
}

func newURL(host, port string) (supervisor.URL, error) {
	return supervisor.ParseURL("https://" + net.JoinHostPort(host, port))
}

// ServerNodes returns the nodes that run a server: those of the control plane,
// then those of etcd alone.
func (c *Cluster) ServerNodes(ctx context.Context) ([]corev1.Node, error) {
	var nodes []corev1.Node
	for _, selector := range []string{
		"node-role.kubernetes.io/control-plane",
		"node-role.kubernetes.io/etcd,!node-role.kubernetes.io/control-plane",
	} {
		list, err := c.Client.Nodes().List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, list.Items...)
	}
	return nodes, nil
}

// ServerURLs returns the supervisor of each server node, by its internal IP
// address.
func (c *Cluster) ServerURLs(ctx context.Context) ([]supervisor.URL, error) {
	nodes, err := c.ServerNodes(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(nodes) == 0:
		return nil, hint.New("the cluster has no node with the role control-plane", hintServer)
	}
	port := c.serverPort(Version(nodes[0].Status.NodeInfo.KubeletVersion).Distribution())
	urls := make([]supervisor.URL, len(nodes))
	for i, node := range nodes {
		if urls[i], err = newURL(internalIP(node), port); err != nil {
			return nil, hint.Wrap(fmt.Errorf("node %q has no internal IP address", node.Name), hintServer)
		}
	}
	return urls, nil
}

// serverPort returns the port on which all servers of the cluster listen: that of the
// kubeconfig, unless it is 443, a load balancer's.
func (c *Cluster) serverPort(d supervisor.Distribution) string {
	if url, err := c.supervisorURL(d); err == nil && url.Port() != "443" {
		return url.Port()
	}
	return d.Port()
}

func internalIP(node corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
