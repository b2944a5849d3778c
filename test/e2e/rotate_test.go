package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	firstPassword  = "e2e-0d5e2f7a91c3b4e860d5e2f7a91c"
	secondPassword = "e2e-1f8c4b2e7d60a95f3e1f8c4b2e7d"
	thirdPassword  = "e2e-2b7a3c9d8e5f41602b7a3c9d8e5f"

	configMapsPath = "/api/v1/namespaces/kube-system/configmaps"
	recordPath     = configMapsPath + "/k3s-token-rotation"
)

// startOwn starts a server that only this test uses.
func startOwn(t *testing.T, options k3stest.Options) *k3stest.Server {
	t.Helper()
	// Not t.TempDir: the test's name would make the paths of sockets too long.
	dir, err := os.MkdirTemp("", "k3t") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	options.Dir = dir
	server, err := k3stest.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// operator is somebody with a kubeconfig, a folder and the plugin.
type operator struct {
	kubeconfig string
	dir        string
}

func newOperator(t *testing.T, server *k3stest.Server) *operator {
	t.Helper()
	return &operator{kubeconfig: server.Kubeconfig, dir: t.TempDir()}
}

// file puts a file into the folder and returns its name.
func (o *operator) file(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (o *operator) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func (o *operator) command(ctx context.Context, t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, binary, args...)
	command.Dir = o.dir
	command.Env = []string{"KUBECONFIG=" + o.kubeconfig, "HOME=" + o.dir}
	command.Stdout, command.Stderr = &stdout, &stderr
	return command, &stdout, &stderr
}

// run runs the plugin, and fails the test where it ends otherwise than with the
// exit code, or does not say one of the texts on stderr or stdout.
func (o *operator) run(t *testing.T, code int, args []string, texts ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	command, stdout, stderr := o.command(ctx, t, args...)
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := result{stdout: stdout.String(), stderr: stderr.String(), exitCode: command.ProcessState.ExitCode()}
	shown := hidePasswords(got.stdout + got.stderr)
	if got.exitCode != code {
		t.Fatalf("%s: exit code %d, want %d:\n%s", args[0], got.exitCode, code, shown)
	}
	for _, text := range texts {
		if !strings.Contains(got.stdout+got.stderr, text) {
			t.Errorf("%s does not say %q:\n%s", args[0], text, shown)
		}
	}
	if strings.Contains(got.stderr, firstPassword) || strings.Contains(got.stderr, secondPassword) || strings.Contains(got.stderr, thirdPassword) {
		t.Errorf("%s shows a password on stderr:\n%s", args[0], shown)
	}
	return got
}

func hidePasswords(text string) string {
	return redact([]any{strings.NewReplacer(firstPassword, "<first>", secondPassword, "<second>", thirdPassword, "<third>").Replace(text)})[0].(string)
}

// passwordOf is the password of a server token in secure format.
func passwordOf(t *testing.T, token string) string {
	t.Helper()
	_, password, ok := strings.Cut(strings.TrimSpace(token), "::server:")
	if !ok {
		t.Fatal("that is not a server token in secure format")
	}
	return password
}

// answers fails the test where the server says to the server token of that
// password something else than that: 405 is yes, 401 is no.
func answers(t *testing.T, server *k3stest.Server, password string, want int) {
	t.Helper()
	status, _, err := server.Supervisor(t.Context(), k3stest.Credentials{Username: "server", Password: password}, http.MethodGet, "/v1-"+server.Program+"/token")
	if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Errorf("%s answers %d to a password, want %d", server.URL, status, want)
	}
}

// state is what a rotation changes on a server.
func state(t *testing.T, server *k3stest.Server) string {
	t.Helper()
	var all strings.Builder
	for _, file := range []string{"token", "cred/passwd"} {
		content, err := os.ReadFile(filepath.Join(server.DataDir, "server", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s:\n%s\n", file, content)
	}
	return all.String()
}

// restartWith restarts a server with the server token of that password, and
// waits until it can be used.
func restartWith(t *testing.T, server *k3stest.Server, password string) {
	t.Helper()
	if err := server.SetToken(password); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, server *k3stest.Server) map[string]string {
	t.Helper()
	answer, err := call(server, http.MethodGet, recordPath, "", nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var configMap struct{ Data map[string]string }
	if err := json.Unmarshal(answer, &configMap); err != nil {
		t.Fatal(err)
	}
	return configMap.Data
}

// addNode makes a control-plane node: a test server runs no kubelet that would.
func addNode(t *testing.T, server *k3stest.Server, name, address string) {
	t.Helper()
	object := func(fields string) []byte {
		return []byte(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"` + name + `","labels":{"node-role.kubernetes.io/control-plane":"true"}}` + fields + `}`)
	}
	if _, err := call(server, http.MethodPost, "/api/v1/nodes", "application/json", object("")); err != nil {
		t.Fatal(err)
	}
	_, err := call(server, http.MethodPatch, "/api/v1/nodes/"+name+"/status", "application/merge-patch+json",
		object(`,"status":{"addresses":[{"type":"InternalIP","address":"`+address+`"}]}`))
	if err != nil {
		t.Fatal(err)
	}
}

func addData(t *testing.T, server *k3stest.Server) {
	t.Helper()
	const object = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"precious"},"data":{"a":"b"}}`
	if _, err := call(server, http.MethodPost, configMapsPath, "application/json", []byte(object)); err != nil {
		t.Fatal(err)
	}
}

func hasData(t *testing.T, server *k3stest.Server) {
	t.Helper()
	answer, err := call(server, http.MethodGet, configMapsPath+"/precious", "", nil)
	if err != nil || !bytes.Contains(answer, []byte(`"a":"b"`)) {
		t.Errorf("the cluster's data is gone: %v", err)
	}
}

func TestRotateOnARealServer(t *testing.T) {
	besideOthers(t)
	for _, program := range []string{"k3s", "rke2"} {
		t.Run(program, func(t *testing.T) {
			requireBuilt(t, program)
			server := startOwn(t, k3stest.Options{Program: program, Token: firstPassword})
			addNode(t, server, "s1", "127.0.0.1")
			addData(t, server)
			o := newOperator(t, server)
			current, err := server.ServerToken()
			if err != nil {
				t.Fatal(err)
			}
			old := o.file(t, "old", current)

			// On RKE2 the port of the supervisor is another than the API's, and
			// here not the usual one.
			args := []string{"rotate", "--token-file", old, "--new-token-output", "new", "--yes", "--server", server.SupervisorURL}
			o.run(t, 0, args, "5  send the credentials               ok", "systemctl restart "+program)
			next := o.read(t, "new")
			password := passwordOf(t, next)
			if disk, err := server.ServerToken(); err != nil || disk != next {
				t.Errorf("the server has another token on its disk than the file (%v)", err)
			}
			answers(t, server, firstPassword, http.StatusMethodNotAllowed)
			answers(t, server, password, http.StatusUnauthorized)
			if r := record(t, server); r["state"] != "rotated" || r["server"] != server.SupervisorURL || r["by"] != "system:admin" {
				t.Errorf("the record is %v", r)
			}
			o.run(t, 1, []string{"verify", "--server", server.SupervisorURL, "--token-file", "new"}, "Verdict: refused")

			if err := server.SetToken(firstPassword); err != nil {
				t.Fatal(err)
			}
			if err := server.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "encrypted with different token") {
				t.Errorf("the server starts with the old token, which the user is told it does not: %v", err)
			}
			restartWith(t, server, password)
			answers(t, server, firstPassword, http.StatusUnauthorized)
			answers(t, server, password, http.StatusMethodNotAllowed)
			hasData(t, server)
			o.run(t, 1, []string{"rotate", "--token-file", old, "--yes", "--server", server.SupervisorURL}, "refuses the password")
			o.run(t, 0, []string{"verify", "--server", server.SupervisorURL, "--token-file", "new", "--old-token-file", old}, "Verdict: accepted")

			// Another rotation, with a token of one's own that is hard to quote.
			const special = `e2e "$#%\'{}&<>: 1`
			own := o.file(t, "own", strings.ReplaceAll(special, " ", "_"))
			got := o.run(t, 0, []string{"rotate", "--token-file", "new", "--new-token-file", own, "--allow-special-characters", "--allow-weak", "--yes", "--server", server.SupervisorURL},
				"is finished: every server answers to its token")
			if passwordOf(t, got.stdout) != o.read(t, own) {
				t.Error("another token than the given one was printed")
			}
			restartWith(t, server, o.read(t, own))
			answers(t, server, o.read(t, own), http.StatusMethodNotAllowed)
			answers(t, server, password, http.StatusUnauthorized)
			hasData(t, server)
		})
	}
}

func TestRotateRefusalsLeaveARealServerAsItWas(t *testing.T) {
	besideOthers(t)
	requireBuilt(t, "k3s")
	server := startOwn(t, k3stest.Options{Token: firstPassword, AgentToken: thirdPassword})
	o := newOperator(t, server)
	current, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.TrimPrefix(current, "K10")[:64]
	old := o.file(t, "old", current)
	existing := o.file(t, "existing", "precious")
	before := state(t, server)

	base := []string{"rotate", "--yes", "--token-file", old}
	next := func(name, content string) []string {
		return append(base[:len(base):len(base)], "--new-token-file", o.file(t, name, content))
	}
	const other = "https://127.0.0.1:1"
	for _, test := range []struct {
		name string
		args []string
		says string
	}{
		{"bootstrap form", next("n1", "abcdef.0123456789abcdef"), "form of a bootstrap token"},
		{"bootstrap form in K10", next("n2", "K10"+hash+"::abcdef.0123456789abcdef"), "form of a bootstrap token"},
		{"K10 of another CA", next("n3", "K10"+strings.Repeat("a", 64)+"::server:"+secondPassword), "another CA"},
		{"K10 without password", next("n4", "K10"+hash), "malformed token file"},
		{"agent token", next("n5", "K10"+hash+"::node:"+secondPassword), "not a server token"},
		{"empty", next("n6", ""), "is empty"},
		{"white space", next("n7", "Xk29fQ7mWz41 Lp83vTb60RcY"), "white space"},
		{"control character", next("n8", "Xk29fQ7mWz41\x7fLp83vTb60RcY"), "control character"},
		{"not ASCII", next("n9", "Xk29fQ7mWz41ñLp83vTb60RcY"), "not ASCII"},
		{"special characters", next("n10", "Xk29fQ7m$z41Lp83"), "--allow-special-characters"},
		{"short", next("n11", "Xk29fQ7m"), "--allow-weak"},
		{"guessable", next("n12", "adminadminadmin1234"), "--allow-weak"},
		{"the current one", next("n13", firstPassword), "is the current one"},
		{"wrong current token", []string{"rotate", "--yes", "--token-file", o.file(t, "n14", "K10"+hash+"::server:"+secondPassword)}, "refuses the password"},
		{"agents' token as current", []string{"rotate", "--yes", "--token-file", o.file(t, "n15", "K10"+hash+"::server:"+thirdPassword)}, "agent token's password"},
		{"bootstrap token as current", []string{"rotate", "--yes", "--token-file", o.file(t, "n16", "abcdef.0123456789abcdef")}, "is a bootstrap token"},
		{"another server that is down", append(base[:len(base):len(base)], "--server", server.URL, "--server", other), "nothing listens"},
		{"a file that exists", append(base[:len(base):len(base)], "--new-token-output", existing), "exists already"},
		{"no terminal", []string{"rotate", "--token-file", old}, "add --yes"},
		{"dry run, to be sure", append(base[:len(base):len(base)], "--dry-run=server", "--server", other), "nothing listens"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o.run(t, 1, test.args, test.says)
			if got := state(t, server); got != before {
				t.Error("the token file or the password file has changed")
			}
		})
	}
	t.Run("dry run", func(t *testing.T) {
		o.run(t, 0, append(base[:len(base):len(base)], "--dry-run=server", "--new-token-output", "new"), "nothing was changed")
		if _, err := os.Stat(filepath.Join(o.dir, "new")); err == nil {
			t.Error("the file was written")
		}
	})
	t.Run("somebody else's record", func(t *testing.T) {
		const object = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"k3s-token-rotation"},"data":{"state":"rotated","server":"https://10.0.0.9:6443"}}`
		if _, err := call(server, http.MethodPost, configMapsPath, "application/json", []byte(object)); err != nil {
			t.Fatal(err)
		}
		o.run(t, 1, base, "would do damage")
		if _, err := call(server, http.MethodDelete, recordPath, "", nil); err != nil {
			t.Fatal(err)
		}
	})
	if o.read(t, existing) != "precious" {
		t.Error("the existing file was overwritten")
	}
	if state(t, server) != before || record(t, server) != nil {
		t.Error("the server or the cluster is not as it was")
	}
	answers(t, server, firstPassword, http.StatusMethodNotAllowed)
	answers(t, server, secondPassword, http.StatusUnauthorized)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, server, firstPassword, http.StatusMethodNotAllowed)
}

// TestRotateSurvivesALostAnswer has the connection cut after the server has
// carried out the rotation, and before it says so.
func TestRotateSurvivesALostAnswer(t *testing.T) {
	besideOthers(t)
	requireBuilt(t, "k3s")
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	o := newOperator(t, server)
	current, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	// The first connection fetches the CA, the second probes, and each PUT has
	// one of its own.
	front := startFront(t, "127.0.0.1", func(int) string { return strings.TrimPrefix(server.SupervisorURL, "https://") })
	front.cutAnswer = func(connection int) bool { return connection == 3 }
	got := o.run(t, 0, []string{"rotate", "--yes", "--token-file", o.file(t, "old", current), "--server", front.url()}, "The server token is rotated")
	if n := front.connections(); n < 4 {
		t.Errorf("the server was reached %d times: no answer was cut", n)
	}
	password := passwordOf(t, got.stdout)
	if disk, err := server.ServerToken(); err != nil || passwordOf(t, disk) != password {
		t.Errorf("the server has another token on its disk than the printed one (%v)", err)
	}
	rotateWhileTheTerminalGoes(t, o, server)
	last, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	restartWith(t, server, passwordOf(t, last))
	answers(t, server, passwordOf(t, last), http.StatusMethodNotAllowed)
}

// rotateWhileTheTerminalGoes closes the terminal while the server carries out the
// rotation. The token, which cannot be printed there any more, has to be in a
// file.
func rotateWhileTheTerminalGoes(t *testing.T, o *operator, server *k3stest.Server) {
	t.Helper()
	front := startFront(t, "127.0.0.1", func(int) string { return strings.TrimPrefix(server.SupervisorURL, "https://") })
	front.cutAnswer = func(connection int) bool { return connection == 3 }
	before, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command, _, _ := o.command(ctx, t, "rotate", "--yes", "--force", "--token-file", "old", "--server", front.url())
	command.Stdout, command.Stderr = nil, nil
	// What is shown is not read: a read that is under way would keep the terminal.
	screen, err := pty.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	for front.connections() < 3 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // for the request to arrive
	_ = screen.Close()
	interruptWithEcho(command.Process, syscall.SIGHUP)
	_ = command.Wait() // the exit code says how it ended
	// Whether the answer, the failed write or the signal comes first is open.
	if code := command.ProcessState.ExitCode(); code != 0 && code != 1 && code != 129 {
		t.Errorf("exit code %d, or -1 where the signal has ended it", code)
	}
	after, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	if after == before {
		t.Fatal("the server token was not changed: the delays are wrong")
	}
	saved, err := filepath.Glob(filepath.Join(o.dir, "k3s-new-server-token-*"))
	if err != nil || len(saved) != 1 {
		t.Fatalf("the new token is in %d files (%v)", len(saved), err)
	}
	if o.read(t, filepath.Base(saved[0])) != after {
		t.Error("another token than the server's was saved")
	}
}

// front is a TCP proxy in front of servers.
type front struct {
	listener  net.Listener
	target    func(connection int) string
	cutAnswer func(connection int) bool

	mu    sync.Mutex
	count int
}

func startFront(t *testing.T, address string, target func(int) string) *front {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	f := &front{listener: listener, target: target, cutAnswer: func(int) bool { return false }}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.count++
			n := f.count
			f.mu.Unlock()
			running.Go(func() { f.serve(client, n) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return f
}

func (f *front) url() string { return "https://" + f.listener.Addr().String() }

func (f *front) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *front) serve(client net.Conn, n int) {
	defer client.Close()
	server, err := new(net.Dialer).Dial("tcp", f.target(n))
	if err != nil {
		return
	}
	defer server.Close()
	if !f.cutAnswer(n) {
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
		return
	}
	// The client's hello goes out and the server's handshake comes back; after
	// what the client sends next nothing comes back any more.
	hello := make([]byte, 16<<10)
	size, err := client.Read(hello)
	if err != nil {
		return
	}
	_, _ = server.Write(hello[:size])
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = io.Copy(client, server)
	}()
	size, err = client.Read(hello)
	_ = client.(*net.TCPConn).CloseWrite()
	if err != nil {
		return
	}
	_, _ = server.Write(hello[:size])
	go func() { _, _ = io.Copy(server, client) }()
	time.Sleep(2 * time.Second) // for the server to carry it out
	_ = client.Close()
	_ = server.Close()
	<-answered
}

// TestRotateAClusterOfTwoServers takes a cluster over embedded etcd through a
// whole rotation, with everything that somebody may do wrong on the way.
func TestRotateAClusterOfTwoServers(t *testing.T) {
	besideOthers(t)
	requireBuilt(t, "k3s")
	if err := k3stest.NetworkMissing(); err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	network, err := k3stest.NewNetwork(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	// Servers of a cluster share one certificate, which gets the name of one that
	// joins only after a while: both have all names from the start.
	names := []string{"--tls-san", network.Machine(), "--tls-san", network.Host(1).Address, "--tls-san", network.Host(2).Address}
	s1 := startOwn(t, k3stest.Options{Token: firstPassword, Host: network.Host(1), Args: append([]string{"--cluster-init"}, names...)})
	s2 := startOwn(t, k3stest.Options{Token: firstPassword, Host: network.Host(2), Join: s1.SupervisorURL, Args: names})
	addNode(t, s1, "s1", network.Host(1).Address)
	addNode(t, s1, "s2", network.Host(2).Address)
	addData(t, s1)
	o := newOperator(t, s1)
	current, err := s1.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.TrimPrefix(current, "K10")[:64]
	secure := func(password string) string { return "K10" + hash + "::server:" + password }
	first, second, third := o.file(t, "first", current), o.file(t, "second", secure(secondPassword)), o.file(t, "third", secure(thirdPassword))
	before := state(t, s2)

	rotate := func(from, to string, more ...string) []string {
		return append([]string{"rotate", "--yes", "--token-file", from, "--new-token-file", to}, more...)
	}
	verify := []string{"verify", "--all-servers", "--token-file", second, "--old-token-file", first}

	// A load balancer is none of the servers.
	balancer := startFront(t, network.Machine(), func(n int) string {
		return strings.TrimPrefix([]string{s1.URL, s2.URL}[n%2], "https://")
	})
	o.run(t, 1, rotate(first, second, "--server", balancer.url()), "is none of them", network.Host(1).Address+", "+network.Host(2).Address)
	o.run(t, 0, rotate(first, second, "--server", s1.URL, "--dry-run=server"), "the cluster has 2 servers, and 1 is checked")
	if record(t, s1) != nil {
		t.Fatal("there is a record before anything was done")
	}

	o.run(t, 0, rotate(first, second, "--all-servers"), "2. Restart "+s1.URL, "3. Restart the other servers, one at a time: "+s2.URL)
	if r := record(t, s2); r["state"] != "rotated" || r["server"] != s1.URL {
		t.Errorf("the record is %v", r)
	}
	// Neither server has noticed anything.
	for _, server := range []*k3stest.Server{s1, s2} {
		answers(t, server, firstPassword, http.StatusMethodNotAllowed)
		answers(t, server, secondPassword, http.StatusUnauthorized)
	}
	// So only the record keeps the next one from doing damage through s2.
	o.run(t, 1, rotate(first, third, "--server", s2.URL, "--server", s1.URL), "through "+s1.URL, "is not finished, and another one through "+s2.URL+" would do damage")
	o.run(t, 1, rotate(first, third, "--server", s2.URL, "--all-servers"), "would do damage")
	if state(t, s2) != before {
		t.Fatal("s2 was touched")
	}
	o.run(t, 0, rotate(first, second, "--server", s1.URL, "--all-servers"), "This repeats a rotation")
	o.run(t, 1, []string{"verify", "--all-servers", "--token-file", second}, "is not finished")
	o.run(t, 0, []string{"verify", "--all-servers", "--token-file", first}, "is not finished")
	if record(t, s1) == nil {
		t.Fatal("the old token has removed the record")
	}

	restartWith(t, s1, secondPassword)
	got := o.run(t, 1, verify, "is not finished")
	rows(t, got.stdout, map[string]string{s1.URL: "accepted refused", s2.URL: "refused accepted"})
	for _, from := range []string{first, second} {
		o.run(t, 1, rotate(from, third, "--all-servers"), "an earlier rotation was not finished")
		o.run(t, 1, rotate(from, third, "--server", s2.URL, "--server", s1.URL, "--force"), "an earlier rotation was not finished")
	}

	restartWith(t, s2, secondPassword)
	got = o.run(t, 0, verify, "its record was removed")
	rows(t, got.stdout, map[string]string{s1.URL: "accepted refused", s2.URL: "accepted refused"})
	if record(t, s1) != nil {
		t.Error("the record is still there")
	}
	hasData(t, s1)
	hasData(t, s2)

	// The next one goes through the other server.
	o.run(t, 0, rotate(second, third, "--server", s2.URL, "--all-servers"), "2. Restart "+s2.URL)
	restartWith(t, s2, thirdPassword)
	restartWith(t, s1, thirdPassword)
	o.run(t, 0, []string{"verify", "--all-servers", "--token-file", third, "--old-token-file", second}, "its record was removed")
	hasData(t, s1)
	hasData(t, s2)
}

// rows fails the test where a table's line that starts with one of the texts
// does not go on with what it should.
func rows(t *testing.T, table string, want map[string]string) {
	t.Helper()
	for first, rest := range want {
		found := false
		for line := range strings.Lines(table) {
			fields := strings.Fields(line)
			if len(fields) > 0 && fields[0] == first {
				found = strings.HasPrefix(strings.Join(fields[1:], " "), rest)
			}
		}
		if !found {
			t.Errorf("the row of %s does not go on with %q:\n%s", first, rest, table)
		}
	}
}
