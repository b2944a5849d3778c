package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// newCluster returns a cluster with these objects, and a kubeconfig for the host.
func newCluster(host string, objects ...runtime.Object) *cluster.Cluster {
	return &cluster.Cluster{Config: &rest.Config{Host: host}, Client: fake.NewSimpleClientset(objects...).CoreV1()}
}

func TestJoinURL(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.43.0.1")
	for name, test := range map[string]struct{ host, given, want, warning string }{
		"usual":                  {"https://k3s:6443/", "", "https://k3s:6443", ""},
		"load balancer":          {"https://k3s", "", "https://k3s:443", ""},
		"RKE2 has another port":  {"https://rke2:6443", "", "https://rke2:9345", ""},
		"k3d":                    {"https://0.0.0.0:36123", "", "https://127.0.0.1:36123", "leads a node to itself"},
		"a Pod's":                {"https://10.43.0.1:443", "", "https://10.43.0.1:443", "within the cluster"},
		"a Service":              {"https://k3s:6443", "https://k3s.kube-system.svc:443", "https://k3s.kube-system.svc:443", "within the cluster"},
		"given behind a proxy":   {"https://rancher/k8s/clusters/c-1", "https://k3s:6443", "https://k3s:6443", ""},
		"given without a port":   {"https://k3s:6443", "https://k3s", "https://k3s:443", "nodes dial port 443; the supervisor's port is 6443"},
		"given the API of RKE2":  {"https://rke2:6443", "https://rke2:6443", "https://rke2:6443", "the supervisor's port is 9345"},
		"given the kubeconfig's": {"https://k3s:7443", "https://balancer:7443", "https://balancer:7443", ""},
	} {
		distribution := supervisor.K3s
		if strings.HasPrefix(test.host, "https://rke2:") {
			distribution = supervisor.RKE2
		}
		var given supervisor.URL
		if test.given != "" {
			given, _ = supervisor.ParseURL(test.given)
		}
		url, warning, err := newCluster(test.host).JoinURL(given, distribution)
		if err != nil || url.String() != test.want {
			t.Errorf("%s: %s (%v), want %s", name, url, err, test.want)
		}
		if (warning != "") != (test.warning != "") || !strings.Contains(warning, test.warning) {
			t.Errorf("%s: warning %q, want %q", name, warning, test.warning)
		}
	}
}

func TestAddressThatNodesCannotDial(t *testing.T) {
	for _, host := range []string{"https://rancher/k8s/clusters/c-1", "https://user:hunter2@k3s.example:6443", "https://k3s.example:hunter2"} {
		url, _, err := newCluster(host).JoinURL(supervisor.URL{}, supervisor.K3s)
		if err == nil || url != (supervisor.URL{}) || !strings.Contains(hint.Of(err), "--url") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %s, error %v, hint %q", host, url, err, hint.Of(err))
		}
	}
}

// node returns a node with roles. An empty address is none.
func node(name, version, address string, roles ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, role := range roles {
		n.Labels["node-role.kubernetes.io/"+role] = "true"
	}
	n.Status.NodeInfo.KubeletVersion = version
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	if address != "" {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
	}
	return n
}

func TestServerURLsAreThoseOfTheServerNodes(t *testing.T) {
	const k3s, rke2 = "v1.31.1+k3s1", "v1.31.1+rke2r1"
	for name, test := range map[string]struct {
		host  string
		nodes []runtime.Object
		want  string
	}{
		"control plane and etcd": {"https://k3s:7443", []runtime.Object{
			node("s1", k3s, "10.0.0.1", "control-plane", "etcd"), node("e1", k3s, "10.0.0.3", "etcd"), node("worker", k3s, "10.0.0.9"),
		}, "https://10.0.0.1:7443 https://10.0.0.3:7443"},
		"load balancer": {"https://k3s", []runtime.Object{node("s1", k3s, "10.0.0.1", "control-plane")}, "https://10.0.0.1:6443"},
		"RKE2":          {"https://rke2:6443", []runtime.Object{node("s1", rke2, "10.0.0.1", "control-plane")}, "https://10.0.0.1:9345"},
	} {
		urls, err := newCluster(test.host, test.nodes...).ServerURLs(t.Context())
		if got := fmt.Sprint(urls); err != nil || got != "["+test.want+"]" {
			t.Errorf("%s: %s (%v), want %s", name, urls, err, test.want)
		}
	}
}
