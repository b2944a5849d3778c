package k3stest_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// requireBuilt skips a test that needs a server that was not built, and fails
// it where the end-to-end tests are meant to run.
func requireBuilt(t *testing.T, program string) {
	t.Helper()
	_, err := k3stest.Binary(program)
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("K3STOKEN_E2E") == "1" {
		t.Fatalf("run make test-e2e: %v", err)
	}
	t.Skipf("run make test-e2e: %v", err)
}

// start starts a server that is stopped when the test ends.
func start(t *testing.T, options k3stest.Options) *k3stest.Server {
	t.Helper()
	requireBuilt(t, options.Program)
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

// supervisorStatus is how the server's supervisor answers to an agent's token.
func supervisorStatus(t *testing.T, server *k3stest.Server, token string) int {
	t.Helper()
	status, _, err := server.Supervisor(t.Context(), k3stest.TokenCredentials(token), http.MethodGet, server.ReadyPath())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestServersRunSideBySideWithTheirOwnTokens(t *testing.T) {
	const serverPassword, agentPassword = "server-password-of-a", "agent-password-of-a"
	a := start(t, k3stest.Options{Program: "k3s", Token: serverPassword, AgentToken: agentPassword})
	b := start(t, k3stest.Options{Program: "rke2", CustomCA: true})

	if token, err := a.ServerToken(); err != nil || !strings.HasSuffix(token, "::server:"+serverPassword) {
		t.Errorf("the server token is not the given one (error: %v)", err)
	}
	for token, want := range map[string]int{agentPassword: http.StatusOK, serverPassword: http.StatusUnauthorized} {
		if status := supervisorStatus(t, a, token); status != want {
			t.Errorf("a answers %d to a password, want %d", status, want)
		}
	}
	if status := supervisorStatus(t, b, agentPassword); status != http.StatusUnauthorized {
		t.Errorf("b answers %d to a's agent token, want 401", status)
	}
	// RKE2 serves nodes on a port of its own.
	if b.URL == b.SupervisorURL {
		t.Errorf("RKE2's API and supervisor are both at %s", b.URL)
	}
	if bundle, err := os.ReadFile(b.CAFile); err != nil || strings.Count(string(bundle), "BEGIN CERTIFICATE") != 3 {
		t.Errorf("the custom CA bundle does not hold three certificates (error: %v)", err)
	}
	for _, server := range []*k3stest.Server{a, b} {
		info, err := os.Stat(server.Kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", server.Kubeconfig, info.Mode())
		}
	}

	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := supervisorStatus(t, a, agentPassword); status != http.StatusOK {
		t.Errorf("after a restart a answers %d to its agent token, want 200", status)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if a.Running() {
		t.Error("a runs after it was stopped")
	}
	if _, _, err := a.Admin(t.Context(), http.MethodGet, "/readyz", "", nil); err == nil {
		t.Error("a answers after it was stopped")
	}
	if !b.Running() {
		t.Error("b ended with a")
	}
}

func TestStartReportsTheLogOfAServerThatEnds(t *testing.T) {
	requireBuilt(t, "k3s")
	_, err := k3stest.Start(t.Context(), k3stest.Options{Dir: t.TempDir(), Args: []string{"--egress-selector-mode", "nonsense"}})
	if err == nil || !strings.Contains(err.Error(), "invalid egress-selector-mode nonsense") {
		t.Fatalf("got error %v, want the server's own words", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	requireBuilt(t, "k3s")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := k3stest.Start(ctx, k3stest.Options{Dir: t.TempDir()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got error %v, want that time is up", err)
	}
}

func TestOracleAnswersWithK3sOwnJudgement(t *testing.T) {
	requireBuilt(t, "k3s")
	oracle, err := k3stest.StartOracle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := oracle.Close(); err != nil {
			t.Error(err)
		}
	})
	hash := strings.Repeat("a", 64)
	for token, want := range map[string]k3stest.Parsed{
		"abcdef.0123456789abcdef":                      {ID: "abcdef", Secret: "0123456789abcdef"},
		"K10" + hash + "::abcdef.0123456789abcdef":     {ID: "abcdef", Secret: "0123456789abcdef"},
		"K10" + hash + "::server:pass:word":            {Username: "server", Password: "pass:word"},
		"only-a-password":                              {Password: "only-a-password"},
		"K10" + hash + "::node:::password::with::more": {Username: "node", Password: "::password::with::more"},
	} {
		if got, err := oracle.Parse(token); err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", token, got, err, want)
		}
	}
	var verdict k3stest.OracleError
	for _, token := range []string{"", "K10abc::server:password", "K10" + hash + "::server:"} {
		if got, err := oracle.Parse(token); !errors.As(err, &verdict) {
			t.Errorf("Parse(%q) = %+v, %v; want K3s to refuse it", token, got, err)
		}
	}
	if hash, err := oracle.Hash([]byte("not PEM")); !errors.As(err, &verdict) {
		t.Errorf("Hash of what is no PEM = %q, %v; want K3s to refuse it", hash, err)
	}
	if err := oracle.Validate("http://127.0.0.1:1", "only-a-password", ""); !errors.As(err, &verdict) {
		t.Errorf("Validate of an http:// URL = %v, want K3s to refuse it", err)
	}
}

func TestTokenCredentialsAreWhatAnAgentSends(t *testing.T) {
	hash := strings.Repeat("a", 64)
	for token, want := range map[string]k3stest.Credentials{
		"abcdef.0123456789abcdef":                  {Bearer: "abcdef.0123456789abcdef"},
		"K10" + hash + "::abcdef.0123456789abcdef": {Bearer: "abcdef.0123456789abcdef"},
		"K10" + hash + "::server:pass:word":        {Username: "node", Password: "pass:word"},
		"K10" + hash + "::node:password":           {Username: "node", Password: "password"},
		"pass:word":                                {Username: "node", Password: "pass:word"},
	} {
		if got := k3stest.TokenCredentials(token); got != want {
			t.Errorf("TokenCredentials(%q) = %+v, want %+v", token, got, want)
		}
	}
}

func TestBinaryErrorSaysHowToBuild(t *testing.T) {
	_, err := k3stest.Binary("no-such-program")
	if err == nil || !strings.Contains(err.Error(), "make no-such-program") {
		t.Fatalf("got error %v, want one that names the make target", err)
	}
	root, err := k3stest.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "test", "k3stest")); err != nil {
		t.Errorf("Root is not the repository's: %v", err)
	}
}
