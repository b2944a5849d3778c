package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const firstPassword = "e2e-0d5e2f7a91c3b4e860d5e2f7a91c"

// serverToken is the server token on the server's disk.
func serverToken(t *testing.T, server *k3stest.Server) string {
	t.Helper()
	token, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// restartWith restarts a server with a server token; with its own one if it is empty.
func restartWith(t *testing.T, server *k3stest.Server, token string) {
	t.Helper()
	if err := server.Restart(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}

// addNode makes a control-plane node for as long as the test runs: a test server runs
// no kubelet that would. A node of that name may not be gone for a while after that.
func addNode(t *testing.T, server *k3stest.Server, name, address string) {
	t.Helper()
	_, err := server.Core.Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Core.Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Log(err)
		}
	})
}

// newNetwork makes a network for as long as the test runs.
func newNetwork(t *testing.T, hosts int) *k3stest.Network {
	t.Helper()
	network, err := k3stest.NewNetwork(hosts)
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(network.Close)
	return network
}

// TestRotateNeverLosesTheNewToken loses the answer of the server, or ends the command
// by a signal. It does so as soon as the server has the new token on its disk, and in a
// campaign at any moment. The user always holds the server's token.
func TestRotateNeverLosesTheNewToken(t *testing.T) {
	t.Parallel()
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	before := serverToken(t, server)
	old := writeFile(t, t.TempDir(), "old", before)
	held := map[string]bool{before: true}
	var r *run
	var signal syscall.Signal // 0 to lose the answer
	var once *sync.Once
	front := startFront(t, "127.0.0.1", func() bool {
		passes := true
		if serverToken(t, server) != before {
			once.Do(func() {
				r.signal(signal)
				passes = signal != 0
			})
		}
		return passes
	}, server.SupervisorURL)
	signals := []syscall.Signal{0, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL}
	for i := range campaign(t, len(signals)) {
		signal, once, before = signals[i%len(signals)], new(sync.Once), serverToken(t, server)
		r = newRun(t, server.Kubeconfig, "rotate", "--yes", "--force", "--token-file", old, "--server", front)
		if signal == syscall.SIGKILL || i%2 == 1 { // only a file is safe from SIGKILL
			r.Args = append(r.Args, "--new-token-output", "new")
		}
		r.begin()
		if inCampaign() {
			time.Sleep(rand.N(2 * time.Second))
			r.signal(signal)
		}
		got := r.end()
		held[strings.TrimSpace(got.stdout)] = true
		if content, err := os.ReadFile(filepath.Join(r.folder, "new")); err == nil {
			held[strings.TrimSpace(string(content))] = true
		}
		if got.exitCode != 0 && got.exitCode != 128+int(signal) {
			t.Errorf("%v: exit code %d; stderr:\n%s", signal, got.exitCode, redact(got.stderr))
		}
		// A request of a run that was killed early may still change the token: the
		// next look finds that.
		if after := serverToken(t, server); !held[after] || after == before && !inCampaign() {
			t.Errorf("%v: the user holds the server's token: %v, and it was changed: %v; stderr:\n%s",
				signal, held[after], after != before, redact(got.stderr))
		}
	}
	last := serverToken(t, server)
	restartWith(t, server, last)
	if accepted, err := server.Accepts(t.Context(), last); err != nil || !accepted {
		t.Errorf("the restarted server accepts its token: %v (%v)", accepted, err)
	}
}

// TestRotateAClusterOfTwoServers runs the script for a cluster over embedded etcd.
func TestRotateAClusterOfTwoServers(t *testing.T) {
	t.Parallel()
	network := newNetwork(t, 2)
	h1, h2 := network.Host(1), network.Host(2)
	// Servers of a cluster share one certificate, which gets the name of a joined one
	// only after a while. So both have all names from the start.
	names := []string{"--tls-san", network.Here().Address, "--tls-san", h1.Address, "--tls-san", h2.Address}
	s1 := startOwn(t, k3stest.Options{Token: firstPassword, Host: h1, Args: append([]string{"--cluster-init"}, names...)})
	s2 := startOwn(t, k3stest.Options{Token: firstPassword, Host: h2, Join: s1.SupervisorURL, Args: names})
	addNode(t, s1, "s1", h1.Address)
	addNode(t, s1, "s2", h2.Address)
	balancer := startFront(t, network.Here().Address, always, s1.URL, s2.URL)
	runScripts(t, "script-ha", func(t *testing.T, env *testscript.Env) {
		setup(t, env, s1)
		env.Values[serversKey{}] = map[string]*k3stest.Server{"": s1, s1.URL: s1, s2.URL: s2}
		env.Setenv("SERVER2_URL", s2.URL)
		env.Setenv("DATA_DIR2", s2.DataDir)
		env.Setenv("BALANCER_URL", balancer)
	})
}
