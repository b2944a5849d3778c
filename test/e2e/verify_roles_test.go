package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
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
// results with those that the condition expects, and with verify on the same machine,
// which gives the reason.
func (l *lab) hold(t *testing.T, c condition, reason ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	machine := l.machine(t, k3stest.MachineOptions{NoRuntime: true, Hosts: l.network.Here().Address + " " + labName + "\n"})
	all := ""
	for role, want := range map[string]bool{"agent": c.agent, "server": c.server} {
		actual, err := machine.Judge(ctx, role, c.url, c.token, c.env...)
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		if actual.Joins != want {
			t.Errorf("%s joins: %v, want %v; K3s says %q", role, actual.Joins, want, actual.Words)
		}
		joins, said := l.verdict(t, machine, role, c)
		if joins != actual.Joins {
			t.Errorf("verify --role %s says: %s; the real one joins: %v %q", role, said, actual.Joins, actual.Words)
		}
		all += said + "\n"
	}
	for _, words := range reason {
		if !strings.Contains(all, words) {
			t.Errorf("verify does not say %q:\n%s", words, all)
		}
	}
}

// verdict is whether a node of that role joins by what verify says, and its words.
func (l *lab) verdict(t *testing.T, machine *k3stest.Machine, role string, c condition) (joins bool, said string) {
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
		if failed == nil {
			t.Errorf("verify --role %s prints %q", role, redact(out))
		}
		return false, redact(failed)
	}
	// Unproved is a server that a node would show the token, and verify does not.
	conclusion := verification.Roles[0]
	if (failed == nil) != conclusion.Joins {
		t.Errorf("verify --role %s says joins: %v, and ends with %v", role, conclusion.Joins, failed == nil)
	}
	return conclusion.Joins || conclusion.Verdict == "unproved", conclusion.Verdict + ": " + conclusion.Reason
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

	here := lab.network.Here().Address
	ended, ca := newCertificate(t, here)
	endedForLoopback, otherCA := newCertificate(t, here, net.IPv4(127, 0, 0, 1))
	trust := "SSL_CERT_FILE=" + writeFile(t, t.TempDir(), "ca.crt", string(ca)+string(otherCA))
	terminator, forLoopback := lab.startTerminator(t, ended, ""), lab.startTerminator(t, endedForLoopback, "")
	tlsDir := filepath.Join(lab.DataDir, "server", "tls")
	own, err := tls.LoadX509KeyPair(filepath.Join(tlsDir, "serving-kube-apiserver.crt"), filepath.Join(tlsDir, "serving-kube-apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	router := strings.Replace(lab.startTerminator(t, own, labName), here, labName, 1)
	httpProxy, err := startConnectProxy(here, func(string) string { return strings.TrimPrefix(lab.URL, "https://") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(httpProxy.Close)
	proxy := "HTTPS_PROXY=" + httpProxy.URL
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
		"a TCP load balancer":          {startFront(t, here, always, lab.URL), server, nil, true, false},
		"a load balancer by name":      {router, server, nil, false, true},
		"two clusters at one address":  {startFront(t, here, always, lab.URL, other.URL), server, nil, false, false},
		"TLS ended, trusted":           {terminator, server, []string{trust}, false, true},
		"TLS ended, trusted, loopback": {forLoopback, server, []string{trust}, true, true},
		"TLS ended, not trusted":       {terminator, server, nil, false, false},
		"an unknown name":              {"https://nowhere.lab.example:6443", server, nil, false, false},
		"behind a proxy":               {"https://nowhere.lab.example:6443", server, []string{proxy}, false, false},
		"a proxy that is not needed":   {lab.URL, server, []string{"HTTPS_PROXY=http://127.0.0.1:1"}, true, true},
	}
	address6 := lab.network.Here().Address6
	if listener, err := listenOn(address6); err == nil { // not every machine has IPv6
		_ = listener.Close()
		conditions["over IPv6"] = condition{startFront(t, address6, always, lab.URL), server, nil, true, false}
	}
	id := strings.Split(expired, "::")[1][:6]
	awaitTrue(t, "the token expires", func() bool { _, found := storedTokens(t, lab.Server)[id]; return !found })
	reasons := map[string]string{
		"a load balancer by name": "answers only to clients that name it",
		"behind a proxy":          "only a proxy reaches it",
	}
	for name, c := range conditions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.hold(t, c, reasons[name])
		})
	}
}

// startTerminator starts a load balancer on the lab's network that ends TLS with the
// certificate. It may end handshakes that do not name the server.
func (l *lab) startTerminator(t *testing.T, certificate tls.Certificate, name string) string {
	t.Helper()
	forward, err := reverseProxy(l.SupervisorURL, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if name != "" && hello.ServerName != name {
			return nil, errors.New("no server has this name")
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}, nil
	}}
	server, err := startHTTP(l.network.Here().Address, config, forward)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.URL
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

	restartWith(t, lab.Server, "")
	after := serverToken(t, lab.Server)
	t.Run("old token", func(t *testing.T) { lab.hold(t, condition{lab.URL, before, nil, false, false}) })
	t.Run("new token", func(t *testing.T) { lab.hold(t, condition{lab.URL, after, nil, true, true}) })
	t.Run("token of create", func(t *testing.T) {
		made := newRun(t, writeFile(t, t.TempDir(), "kubeconfig", string(kubeconfig)), "create").begin().wants(0).stdout
		lab.hold(t, condition{lab.URL, strings.TrimSpace(made), nil, true, false})
	})
	t.Run("rotate", func(t *testing.T) {
		file := writeFile(t, t.TempDir(), "token", after)
		rotated := mustRun(t, lab.Server, "rotate", "--yes", "--token-file", file)
		restartWith(t, lab.Server, rotated)
		lab.hold(t, condition{lab.URL, strings.TrimSpace(rotated), nil, true, true})
	})
}

// rotateCA rotates the cluster's CA with the script that K3s's module has for that.
func (l *lab) rotateCA(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		missing(t, err)
	}
	if err := l.RunScript(t.Context(), "rotate-default-ca-certs.sh"); err != nil {
		t.Fatal(err)
	}
	k3s, err := k3stest.Binary("k3s")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), k3s, "certificate", "rotate-ca", "--data-dir", l.DataDir, "--server", l.URL,
		"--path", filepath.Join(l.DataDir, "server", "rotate-ca")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, redact(string(out)))
	}
}
