package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const (
	hintURL    = "pass --url with the address that nodes dial"
	hintServer = "name a K3s server itself, with --server, or for create with --url"
)

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
	if url = given; given == (supervisor.URL{}) {
		url = own
		if err != nil {
			return url, "", err
		}
	}
	switch port := given.Port(); {
	case url.Host() == "localhost" || net.ParseIP(url.Host()).IsLoopback():
		warning = fmt.Sprintf("%s leads a node to itself; %s", url.Host(), hintURL)
	case url.Host() == os.Getenv("KUBERNETES_SERVICE_HOST"), strings.Contains(url.Host()+".", ".svc."): // of a Pod
		warning = fmt.Sprintf("%s is an address within the cluster; %s", url.Host(), hintURL)
	case url.Port() == own.Port(): // that of a load balancer, perhaps
	case given.NoPort():
		warning = fmt.Sprintf("%s has no port, so nodes dial 443; the supervisor's port is %s", url.Host(), d.Port())
	case port != d.Port():
		warning = fmt.Sprintf("nodes dial port %s; the supervisor's port is %s, unless another one is forwarded to it", port, d.Port())
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
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, hint.New("the cluster has no node with the role control-plane", hintServer)
	}
	urls := make([]supervisor.URL, len(nodes))
	for i, node := range nodes {
		if urls[i], err = newURL(internalIP(node), c.supervisorPort(node)); err != nil {
			return nil, hint.Wrap(fmt.Errorf("node %q has no internal IP address", node.Name), hintServer)
		}
	}
	return urls, nil
}

// supervisorPort returns the port of a node's supervisor. All servers of a
// cluster listen on one port, which is the kubeconfig's. Port 443 is a load
// balancer's.
func (c *Cluster) supervisorPort(node corev1.Node) string {
	d := Version(node.Status.NodeInfo.KubeletVersion).Distribution()
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
