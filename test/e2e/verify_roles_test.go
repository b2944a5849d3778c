package e2e

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// labName is a name of the lab's server, which its certificate has. On the lab's
// machines it leads to this process.
const labName = "k3s.lab.example"

// A condition is the surroundings of a joining node, and whether it joins there.
type condition struct {
	url, token string
	env        []string // of the node

	agent, server bool
}

// hold has a real agent and a real server join under the condition. It compares the
// results with those that the condition expects, and with verify on the same machine.
func (l *lab) hold(t *testing.T, c condition) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	machine := l.machine(t, k3stest.MachineOptions{NoRuntime: true, Hosts: l.network.Here().Address + " " + labName + "\n"})
	for role, join := range map[string]func(context.Context, string, string, ...string) (k3stest.Verdict, error){
		"agent": machine.JudgeAgent, "server": machine.JudgeServer,
	} {
		actual, err := join(ctx, c.url, c.token, c.env...)
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		if want := map[string]bool{"agent": c.agent, "server": c.server}[role]; actual.Joins != want {
			t.Errorf("%s joins: %v, want %v; K3s says %q", role, actual.Joins, want, actual.Words)
		}
		l.verdict(t, machine, role, c, actual)
	}
}

// verdict compares the result of verify for a role with that of a real node.
func (l *lab) verdict(t *testing.T, machine *k3stest.Machine, role string, c condition, actual k3stest.Verdict) {
	t.Helper()
	env := append([]string{"KUBECONFIG=" + l.Kubeconfig, "K3S_TOKEN=" + c.token}, c.env...)
	out, failed := machine.Run(t.Context(), plugin+" verify -o json --role "+role+" --server "+c.url, env...)
	var verification struct {
		Roles []struct {
			Joins           bool
			Verdict, Reason string
		}
	}
	if err := json.Unmarshal([]byte(out), &verification); err != nil || len(verification.Roles) != 1 {
		if actual.Joins || failed == nil {
			t.Errorf("verify --role %s: %v; but the real one joins: %v", role, redact(failed), actual.Joins)
		}
		return
	}
	// Unproved is a server that a node would show the token, and verify does not.
	if said := verification.Roles[0]; (said.Joins || said.Verdict == "unproved") != actual.Joins {
		t.Errorf("verify --role %s says %v (%s: %s); the real one joins: %v %q",
			role, said.Joins, said.Verdict, said.Reason, actual.Joins, actual.Words)
	}
}

// TestVerifySaysWhatNodesDo holds verify against real agents and real joining
// servers.
func TestVerifySaysWhatNodesDo(t *testing.T) {
	t.Parallel()
	lab := startLab(t, 6, k3stest.Options{Args: []string{"--tls-san", labName}})
	other := startOwn(t, k3stest.Options{CustomCA: true, AgentToken: "e2e-agent-token-0123456789", Host: <-lab.places})
	server := serverToken(t, lab.Server)
	create := func(args ...string) string {
		return strings.TrimSpace(mustRun(t, lab.Server, append([]string{"create"}, args...)...))
	}
	hash, password, _ := strings.Cut(server, "::server:")
	bootstrap, deleted, signing := create(), create(), create("--usages", "signing")
	_, credentials, _ := strings.Cut(bootstrap, "::")
	mustRun(t, lab.Server, "delete", deleted)
	expired := create("--ttl", "1s")
	otherServer := serverToken(t, other)
	otherAgent, err := other.AgentToken()
	if err != nil {
		t.Fatal(err)
	}

	ca, err := k3stest.NewAuthority("the hosts' CA", nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := "SSL_CERT_FILE=" + writeFile(t, t.TempDir(), "ca.crt", string(ca.PEM()))
	balancer, router := lab.front(t, lab.URL), lab.startRouter(t)
	terminator, forLoopback := lab.startTerminator(t, ca), lab.startTerminator(t, ca, net.IPv4(127, 0, 0, 1))
	proxy := "HTTPS_PROXY=" + lab.startHTTPProxy(t)
	conditions := map[string]condition{
		"the server token":             {lab.URL, server, nil, true, true},
		"its password alone":           {lab.URL, password, nil, true, true},
		"a bootstrap token":            {lab.URL, bootstrap, nil, true, false},
		"a bootstrap token, short":     {lab.URL, credentials, nil, true, false},
		"a deleted token":              {lab.URL, deleted, nil, false, false},
		"an expired token":             {lab.URL, expired, nil, false, false},
		"a token of another use":       {lab.URL, signing, nil, false, false},
		"half a CA hash":               {lab.URL, hash[:40] + "::" + credentials, nil, false, false},
		"half a bootstrap token":       {lab.URL, hash + "::" + credentials[:10], nil, false, false},
		"half a password":              {lab.URL, server[:len(server)-4], nil, false, false},
		"another cluster's token":      {lab.URL, otherServer, nil, false, false},
		"an agent token":               {other.URL, otherAgent, nil, true, false},
		"no agent token":               {other.URL, otherServer, nil, false, false},
		"a TCP load balancer":          {balancer, server, nil, true, false},
		"a load balancer by name":      {router, server, nil, false, true},
		"two clusters at one address":  {lab.front(t, lab.URL, other.URL), server, nil, false, false},
		"TLS ended, trusted":           {terminator, server, []string{trust}, false, true},
		"TLS ended, trusted, loopback": {forLoopback, server, []string{trust}, true, true},
		"TLS ended, not trusted":       {terminator, server, nil, false, false},
		"an unknown name":              {"https://nowhere.lab.example:6443", server, nil, false, false},
		"behind a proxy":               {"https://nowhere.lab.example:6443", server, []string{proxy}, false, false},
		"a proxy that is not needed":   {lab.URL, server, []string{"HTTPS_PROXY=http://127.0.0.1:1"}, true, true},
	}
	if address := lab.network.Here().Address6; canListen(t, address) {
		front := startFront(t, address, func(int64) string { return lab.URL }, func() bool { return true })
		conditions["over IPv6"] = condition{front.url, server, nil, true, false}
	}
	id := strings.Split(expired[strings.Index(expired, "::")+2:], ".")[0]
	awaitTrue(t, "the token expires", func() bool { _, there := storedTokens(t, lab.Server)[id]; return !there })
	for name, c := range conditions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.hold(t, c)
		})
	}
}

// canListen reports whether this machine has the address.
func canListen(t *testing.T, address string) bool {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// TestAfterTheCAWasRotated rotates a cluster's CA with K3s's own script. This K3s goes
// on with a certificate of the old CA.
func TestAfterTheCAWasRotated(t *testing.T) {
	t.Parallel()
	lab := startLab(t, 1, k3stest.Options{})
	before := serverToken(t, lab.Server)
	kubeconfig, err := os.ReadFile(lab.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	lab.rotateCA(t)
	t.Run("before the restart", func(t *testing.T) { lab.hold(t, condition{lab.URL, before, nil, true, true}) })

	if err := lab.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := serverToken(t, lab.Server)
	t.Run("old token", func(t *testing.T) { lab.hold(t, condition{lab.URL, before, nil, false, false}) })
	t.Run("new token", func(t *testing.T) { lab.hold(t, condition{lab.URL, after, nil, true, true}) })
	t.Run("token of create", func(t *testing.T) {
		create := newRun(t, writeFile(t, t.TempDir(), "kubeconfig", string(kubeconfig)), "create").begin().end()
		lab.hold(t, condition{lab.URL, strings.TrimSpace(create.stdout), nil, true, false})
	})
	t.Run("rotate", func(t *testing.T) {
		file := writeFile(t, t.TempDir(), "token", after)
		rotated := mustRun(t, lab.Server, "rotate", "--yes", "--token-file", file)
		restartWith(t, lab.Server, passwordOf(t, rotated))
		lab.hold(t, condition{lab.URL, strings.TrimSpace(rotated), nil, true, true})
	})
}

// rotateCA rotates the cluster's CA with the script that K3s's module has for that.
func (l *lab) rotateCA(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		missing(t, "%v", err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), name, args...)
		command.Env = append(os.Environ(), "DATA_DIR="+l.DataDir)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, redact(string(out)))
		}
		return strings.TrimSpace(string(out))
	}
	module := run("go", "-C", filepath.Join(root, "hack", "k3s"), "list", "-m", "-f", "{{.Dir}}", "github.com/k3s-io/k3s")
	run("bash", filepath.Join(module, "contrib", "util", "rotate-default-ca-certs.sh"))
	k3s, err := k3stest.Binary("k3s")
	if err != nil {
		t.Fatal(err)
	}
	run(k3s, "certificate", "rotate-ca", "--data-dir", l.DataDir, "--server", l.URL, "--path", filepath.Join(l.DataDir, "server", "rotate-ca"))
}
