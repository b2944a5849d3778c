package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	firstPassword  = "e2e-0d5e2f7a91c3b4e860d5e2f7a91c"
	secondPassword = "e2e-1f8c4b2e7d60a95f3e1f8c4b2e7d"
	thirdPassword  = "e2e-2b7a3c9d8e5f41602b7a3c9d8e5f"

	recordName = "k3s-token-rotation"
)

// operator is a user with a kubeconfig, a folder and the plugin.
type operator struct {
	t      *testing.T
	server *k3stest.Server // of the kubeconfig
	dir    string
}

// file puts a file into the folder and returns its path.
func (o *operator) file(name, content string) string {
	o.t.Helper()
	return writeFile(o.t, o.dir, name, content+"\n")
}

// run runs the plugin. It fails the test if the exit code is another one, or one of the
// texts is missing on stderr and stdout.
func (o *operator) run(code int, args []string, texts ...string) result {
	o.t.Helper()
	got := runPlugin(o.t, o.server, args...)
	shown := redact(strings.NewReplacer(firstPassword, "<first>", secondPassword, "<second>", thirdPassword, "<third>").Replace(got.stdout + got.stderr))
	if got.exitCode != code {
		o.t.Fatalf("%s: exit code %d, want %d:\n%s", args[0], got.exitCode, code, shown)
	}
	for _, text := range texts {
		if !strings.Contains(got.stdout+got.stderr, text) {
			o.t.Errorf("%s does not say %q:\n%s", args[0], text, shown)
		}
	}
	return got
}

// serverToken is the server token on the server's disk.
func serverToken(t *testing.T, server *k3stest.Server) string {
	t.Helper()
	token, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// passwordOf is the password of a server token in secure format.
func passwordOf(t *testing.T, token string) string {
	t.Helper()
	_, password, ok := strings.Cut(strings.TrimSpace(token), "::server:")
	if !ok {
		t.Fatal("no server token in secure format")
	}
	return password
}

// answers fails the test if the server answers otherwise to the server token of
// that password: 405 is yes, 401 is no.
func answers(t *testing.T, server *k3stest.Server, password string, want int) {
	t.Helper()
	got, err := server.Supervisor(t.Context(), k3stest.Credentials{Username: "server", Password: password}, http.MethodGet, "/v1-"+server.Program+"/token")
	if err != nil || got != want {
		t.Errorf("%s answers %d (%v) to a password, want %d", server.URL, got, err, want)
	}
}

// restartWith restarts a server with the server token of that password.
func restartWith(t *testing.T, server *k3stest.Server, password string) {
	t.Helper()
	if err := server.SetToken(password); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// record is the record of a rotation in the cluster, or nil.
func record(t *testing.T, server *k3stest.Server) map[string]string {
	t.Helper()
	configMap, err := server.Core.ConfigMaps(metav1.NamespaceSystem).Get(t.Context(), recordName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return configMap.Data
}

// addNode makes a control-plane node: a test server runs no kubelet that would.
func addNode(t *testing.T, server *k3stest.Server, name, address string) {
	t.Helper()
	nodes := server.Core.Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}}}
	if _, err := nodes.Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}]}}`, address)
	if _, err := nodes.PatchStatus(t.Context(), name, []byte(status)); err != nil {
		t.Fatal(err)
	}
}

// TestRotateNeverLosesTheNewToken loses the answer of the server, or ends the command
// by a signal. It does so as soon as the server has the new token on its disk, and in a
// campaign at any moment. The user always holds the server's token.
func TestRotateNeverLosesTheNewToken(t *testing.T) {
	t.Parallel()
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	o := &operator{t, server, t.TempDir()}
	before := serverToken(t, server)
	old := o.file("old", before)
	held := map[string]bool{before: true}
	var r *run
	var signal syscall.Signal // 0 to lose the answer
	var once *sync.Once
	front := startFront(t, "127.0.0.1", func(int64) string { return server.SupervisorURL }, func() bool {
		passes := true
		if serverToken(t, server) != before {
			once.Do(func() {
				r.signal(signal)
				passes = signal != 0
			})
		}
		return passes
	})
	signals := []syscall.Signal{0, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL}
	for i := range campaign(t, len(signals)) {
		signal, once, before = signals[i%len(signals)], new(sync.Once), serverToken(t, server)
		file := filepath.Join(o.dir, fmt.Sprintf("new-%d", i))
		args := []string{"rotate", "--yes", "--force", "--token-file", old, "--server", front.url}
		if signal == syscall.SIGKILL || i%2 == 1 { // only a file is safe from SIGKILL
			args = append(args, "--new-token-output", file)
		}
		r = newRun(t, server.Kubeconfig, args...).begin()
		if os.Getenv("K3STOKEN_CAMPAIGN") != "" {
			time.Sleep(rand.N(2 * time.Second))
			r.signal(signal)
		}
		got := r.end()
		held[strings.TrimSpace(got.stdout)] = true
		if content, err := os.ReadFile(file); err == nil {
			held[strings.TrimSpace(string(content))] = true
		}
		if got.exitCode != 0 && got.exitCode != 128+int(signal) {
			t.Errorf("%v: exit code %d; stderr:\n%s", signal, got.exitCode, redact(got.stderr))
		}
		// A request of a run that was killed early may still change the token: the
		// next look finds that.
		if after := serverToken(t, server); !held[after] || after == before && os.Getenv("K3STOKEN_CAMPAIGN") == "" {
			t.Errorf("%v: the user holds the server's token: %v, and it was changed: %v; stderr:\n%s", signal, held[after], after != before, redact(got.stderr))
		}
	}
	last := serverToken(t, server)
	restartWith(t, server, passwordOf(t, last))
	answers(t, server, passwordOf(t, last), http.StatusMethodNotAllowed)
}

// TestRotateAClusterOfTwoServers takes a cluster over embedded etcd through a
// whole rotation, with each mistake that a user may make on the way.
func TestRotateAClusterOfTwoServers(t *testing.T) {
	t.Parallel()
	network, err := k3stest.NewNetwork(2)
	if err != nil {
		missing(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	// Servers of a cluster share one certificate, which gets the name of a joined one
	// only after a while. So both have all names from the start.
	names := []string{"--tls-san", network.Here().Address, "--tls-san", network.Host(1).Address, "--tls-san", network.Host(2).Address}
	s1 := startOwn(t, k3stest.Options{Token: firstPassword, Host: network.Host(1), Args: append([]string{"--cluster-init"}, names...)})
	s2 := startOwn(t, k3stest.Options{Token: firstPassword, Host: network.Host(2), Join: s1.SupervisorURL, Args: names})
	addNode(t, s1, "s1", network.Host(1).Address)
	addNode(t, s1, "s2", network.Host(2).Address)
	o := &operator{t, s1, t.TempDir()}
	hash := strings.TrimPrefix(serverToken(t, s1), "K10")[:64]
	token := func(password string) string { return o.file(password[4:8], "K10"+hash+"::server:"+password) }
	first, second, third := token(firstPassword), token(secondPassword), token(thirdPassword)
	before := serverToken(t, s2)
	rotate := func(from, to string, more ...string) []string {
		return append([]string{"rotate", "--yes", "--token-file", from, "--new-token-file", to}, more...)
	}
	verify := []string{"verify", "--all-servers", "--token-file", second, "--old-token-file", first}

	// A load balancer is none of the servers.
	balancer := startFront(t, network.Here().Address, func(n int64) string { return []string{s1.URL, s2.URL}[n%2] }, func() bool { return true })
	o.run(1, rotate(first, second, "--server", balancer.url), "none of the cluster's 2 servers")
	o.run(0, rotate(first, second, "--server", s1.URL, "--dry-run=server"), "2 servers")
	if record(t, s1) != nil {
		t.Fatal("there is a record before anything was done")
	}

	o.run(0, rotate(first, second, "--all-servers"), "Restart "+s1.URL)
	if r := record(t, s2); r["state"] != "rotated" || r["server"] != s1.URL {
		t.Errorf("the record is %v", r)
	}
	// Neither server has noticed anything, so only the record keeps the next
	// rotation from doing damage through s2.
	for _, server := range []*k3stest.Server{s1, s2} {
		answers(t, server, firstPassword, http.StatusMethodNotAllowed)
		answers(t, server, secondPassword, http.StatusUnauthorized)
	}
	o.run(1, rotate(first, third, "--server", s2.URL, "--server", s1.URL), s1.URL)
	o.run(1, rotate(first, third, "--server", s2.URL, "--all-servers"), s1.URL)
	if serverToken(t, s2) != before {
		t.Fatal("s2 was touched")
	}
	o.run(1, verify)
	o.run(0, []string{"verify", "--all-servers", "--token-file", first})
	if record(t, s1) == nil {
		t.Fatal("the old token has removed the record")
	}

	restartWith(t, s1, secondPassword)
	rows(t, o.run(1, verify).stdout, map[string]string{s1.URL: "accepted refused", s2.URL: "refused accepted"})
	o.run(1, rotate(first, third, "--all-servers"))
	o.run(1, rotate(second, third, "--all-servers"))
	if record(t, s1) == nil {
		t.Fatal("the record is gone before every server accepts the new token")
	}
	restartWith(t, s2, secondPassword)
	rows(t, o.run(0, verify).stdout, map[string]string{s1.URL: "accepted refused", s2.URL: "accepted refused"})
	if record(t, s1) != nil {
		t.Error("the record is still there")
	}
}

// rows fails the test if a table's row that starts with one of the texts does
// not go on as it should.
func rows(t *testing.T, table string, want map[string]string) {
	t.Helper()
	for first, rest := range want {
		found := false
		for line := range strings.Lines(table) {
			found = found || strings.HasPrefix(strings.Join(strings.Fields(line), " "), first+" "+rest)
		}
		if !found {
			t.Errorf("the row of %s does not go on with %q:\n%s", first, rest, table)
		}
	}
}
