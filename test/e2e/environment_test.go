package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// inProcess runs the plugin's code within the test, by a clock that is wrong by
// some time. The certificates are judged by the machine's own clock.
func inProcess(t *testing.T, server *k3stest.Server, wrong time.Duration, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := cmd.Run(ctx, append([]string{cmd.BinaryName}, append(args, "--kubeconfig", server.Kubeconfig)...), cmd.Env{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &stdout, ErrOut: &stderr},
		Now:       func() time.Time { return time.Now().Add(wrong) },
		Random:    rand.Reader,
		Build:     cmd.Build{Version: "e2e"},
	})
	return result{stdout: stdout.String(), stderr: stderr.String(), exitCode: code}
}

// twoHours is how the time that is left of two hours is shown.
var twoHours = regexp.MustCompile(` (?:in )?(?:1h|2h)\b`)

// about fails the test where a time is not some time from now, give or take what
// a slow machine needs.
func about(t *testing.T, what, end string, want time.Duration) {
	t.Helper()
	const slack = time.Minute
	at, err := time.Parse(time.RFC3339, end)
	if off := time.Until(at) - want; err != nil || off.Abs() > slack {
		t.Errorf("%s: it ends in %v (%v), want %v", what, time.Until(at), err, want)
	}
}

func TestAClockThatIsWrongByADay(t *testing.T) {
	server := borrowServer(t, "k3s")
	const day = 24 * time.Hour
	for wrong, where := range map[time.Duration]string{day: "1d ahead of", -day: "1d behind", 0: "", 30 * time.Second: ""} {
		t.Run(wrong.String(), func(t *testing.T) {
			if err := deleteBootstrapTokens(server); err != nil {
				t.Fatal(err)
			}
			warned := 0
			run := func(args ...string) string {
				t.Helper()
				got := inProcess(t, server, wrong, args...)
				if got.exitCode != 0 {
					t.Fatalf("%s: exit code %d: %s", args[0], got.exitCode, redact([]any{got.stderr})[0])
				}
				warning := "Warning: this machine's clock is " + where + " the server's: expiry is judged by the server's\n"
				if n := strings.Count(got.stderr, "clock is"); where == "" && n > 0 || n > 1 || n == 1 && !strings.Contains(got.stderr, warning) {
					t.Errorf("%s: stderr is %q", args[0], redact([]any{got.stderr})[0])
				}
				warned += strings.Count(got.stderr, "clock is")
				return got.stdout
			}
			token := run("create", "--ttl", "2h")
			id := strings.Split(strings.TrimSpace(token), "::")[1][:6]
			about(t, "create --ttl 2h", tokenEnds(t, server)[id], 2*time.Hour)
			short := run("create", "short1.0123456789abcdef", "--ttl", "2h", "--token-format", "short", "--groups", "system:bootstrappers:k3s:default-node-token")
			if !strings.HasPrefix(short, "short1.") {
				t.Error("the token in short format is missing")
			}
			about(t, "create in short format", tokenEnds(t, server)["short1"], 2*time.Hour)
			run("extend", "short1", "--ttl", "3h")
			about(t, "extend --ttl 3h", tokenEnds(t, server)["short1"], 3*time.Hour)

			// A token of two hours is good for a day that has already been, or
			// is yet to come.
			if list := run("list", "-o", "wide"); strings.Count(list, "Active") != 2 || !twoHours.MatchString(list) {
				t.Errorf("the list is\n%s", list)
			}
			if deleted := run("delete", "--expired"); deleted != "" {
				t.Errorf("delete --expired says\n%s", deleted)
			}
			if left := len(tokenEnds(t, server)); left != 2 {
				t.Errorf("delete --expired has left %d of 2 tokens that are good", left)
			}
			if want := map[bool]int{true: 5}[where != ""]; warned != want {
				t.Errorf("%d commands warned of the clock, want %d", warned, want)
			}
			if wrong < -time.Minute {
				// The server's certificate is younger than that, and verify
				// judges it as a node does: by the machine's own clock.
				got := inProcess(t, server, wrong, "verify", strings.TrimSpace(token))
				if got.exitCode != 1 || !strings.Contains(got.stdout, "check the clocks") {
					t.Errorf("verify: exit code %d, and it says\n%s", got.exitCode, redact([]any{got.stdout})[0])
				}
				return
			}
			verify := run("verify", strings.TrimSpace(token))
			if !strings.Contains(verify, "Verdict: accepted") || !twoHours.MatchString(verify) {
				t.Errorf("verify says\n%s", redact([]any{verify})[0])
			}
		})
	}
}

// TestACertificateThatIsNotValidYet is what a clock that is a day behind makes
// of the certificates of a new cluster.
func TestACertificateThatIsNotValidYet(t *testing.T) {
	server := borrowServer(t, "k3s")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "k3s"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: tomorrow, NotAfter: tomorrow.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewUnstartedServer(http.NotFoundHandler())
	listener.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	listener.Config.ErrorLog = log.New(io.Discard, "", 0) // that clients do not like it is the point
	listener.StartTLS()
	defer listener.Close()
	for _, args := range [][]string{{"list"}, {"create"}, {"delete", "--expired"}, {"extend", "abcdef", "--ttl", "1h"}} {
		file := filepath.Join(t.TempDir(), "kubeconfig")
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		writeKubeconfig(t, file, map[string]any{"server": listener.URL, "certificate-authority-data": ca}, map[string]any{"token": "t"}, "c")
		got := attempt{args: append(args, "--kubeconfig", file), delay: time.Hour}.on(t, server)
		if got.exitCode != 1 || !strings.Contains(got.stderr, "hint: check this machine's clock; a certificate on the way to the server is valid from "+tomorrow.UTC().Format("2006-01-02T")) {
			t.Errorf("%s: exit code %d, stderr %s", args[0], got.exitCode, got.stderr)
		}
	}
}

// writeKubeconfig writes a kubeconfig with contexts of these names, all of one
// cluster and one user. The first is the current one.
func writeKubeconfig(t *testing.T, file string, cluster, user map[string]any, names ...string) {
	t.Helper()
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config",
		"clusters": []any{map[string]any{"name": "cluster", "cluster": cluster}},
		"users":    []any{map[string]any{"name": "user", "user": user}},
	}
	contexts := make([]any, len(names))
	for i, name := range names {
		contexts[i] = map[string]any{"name": name, "context": map[string]any{"cluster": "cluster", "user": "user"}}
	}
	config["contexts"] = contexts
	if len(names) > 0 {
		config["current-context"] = names[0]
	}
	content, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// admin is how a kubeconfig names the server and its administrator.
func admin(t *testing.T, server *k3stest.Server) (cluster, user map[string]any) {
	t.Helper()
	tlsDir := filepath.Join(server.DataDir, "server", "tls")
	return map[string]any{"server": server.URL, "certificate-authority": server.CAFile},
		map[string]any{"client-certificate": filepath.Join(tlsDir, "client-admin.crt"), "client-key": filepath.Join(tlsDir, "client-admin.key")}
}

func TestAKubeconfigOfTenThousandContexts(t *testing.T) {
	server := borrowServer(t, "k3s")
	createTokens(t, server, 1)
	cluster, user := admin(t, server)
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("context-%04d", i)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	writeKubeconfig(t, file, cluster, user, names...)
	for want, args := range map[string][]string{
		secretPrefix:            {"list", "-o", "name", "--kubeconfig", file},
		secretPrefix + "last01": {"create", "last01.0123456789abcdef", "-o", "name", "--kubeconfig", file, "--context", "context-9999"},
		"context-9999\n:4\n":    {"__complete", "list", "--kubeconfig", file, "--context", "context-99"},
	} {
		got := attempt{args: args, delay: time.Hour}.on(t, server)
		if got.exitCode != 0 || !strings.Contains(got.stdout, want) || got.took > 20*time.Second {
			t.Errorf("%v: exit code %d after %v, %d bytes printed, want %q; stderr: %s", args, got.exitCode, got.took, len(got.stdout), want, got.stderr)
		}
		t.Logf("%s: %v", args[0], got.took)
	}
	if got := (attempt{args: []string{"list", "--kubeconfig", file, "--context", "context-10000"}, delay: time.Hour}).on(t, server); got.exitCode != 1 || got.stderr != "error: context \"context-10000\" does not exist\n" {
		t.Errorf("exit code %d, %d bytes on stderr", got.exitCode, len(got.stderr))
	}
}

// A Secret holds 1 MiB at most, all its fields together.
func TestADescriptionOfOneMiB(t *testing.T) {
	server := borrowServer(t, "k3s")
	description := strings.Repeat("rack 7 ", 1<<20/7+1)[:1<<20]
	got := inProcess(t, server, 0, "create", "--description", description)
	if got.exitCode != 1 || got.stdout != "" || !strings.Contains(got.stderr, "Too long: must have at most 1048576 bytes") || len(got.stderr) > 1000 {
		t.Errorf("exit code %d, %d bytes on stdout, %d on stderr: %.500s", got.exitCode, len(got.stdout), len(got.stderr), got.stderr)
	}
	if left := len(tokenEnds(t, server)); left > 0 {
		t.Fatalf("the cluster has %d tokens", left)
	}

	description = description[:1<<20-1000]
	if got := inProcess(t, server, 0, "create", "large1.0123456789abcdef", "--description", description); got.exitCode != 0 {
		t.Fatalf("exit code %d: %.500s", got.exitCode, got.stderr)
	}
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"list"}, description},
		{[]string{"list", "-o", "jsonpath={.items[0].description}"}, description},
		{[]string{"list", "-o", "yaml"}, "rack 7 rack 7"},
		{[]string{"extend", "large1", "--ttl", "1h"}, "expires at"},
		{[]string{"verify", "large1.0123456789abcdef"}, "Verdict: accepted"},
		{[]string{"__complete", "delete", ""}, "large1\t"},
		{[]string{"delete", "large1"}, "deleted"},
	} {
		got := attempt{args: test.args, delay: time.Hour}.on(t, server)
		if got.exitCode != 0 || !strings.Contains(got.stdout, test.says) {
			t.Errorf("%s: exit code %d, %d bytes on stdout: %.500s", test.args[0], got.exitCode, len(got.stdout), got.stderr)
		}
	}
}

// TestAReadOnlyFileSystem runs each command where nothing can be written: in its
// folder, its home and the folder for temporary files.
func TestAReadOnlyFileSystem(t *testing.T) {
	server := borrowServer(t, "k3s")
	dir := readOnly(t)
	command := func(args ...string) result { return runIn(t, server, dir, args...) }
	got := command("create", "abcdef.0123456789abcdef")
	if got.exitCode != 0 || !strings.HasPrefix(got.stdout, "K10") || got.stderr != "" {
		t.Fatalf("create: exit code %d, stderr %s", got.exitCode, got.stderr)
	}
	for _, args := range [][]string{
		{"list"}, {"extend", "abcdef", "--ttl", "1h"}, {"verify", "abcdef.0123456789abcdef"}, {"inspect", "abcdef.0123456789abcdef"},
		{"generate"}, {"version"}, {"completion"}, {"create", "--dry-run=server"}, {"delete", "--all", "--dry-run=server"},
	} {
		if got := command(args...); got.exitCode != 0 || got.stdout == "" {
			t.Errorf("%s: exit code %d, stderr %s", args[0], got.exitCode, got.stderr)
		}
	}
	got = command("create", "--output-file", "token")
	if got.exitCode != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "error: --output-file: ") {
		t.Errorf("create --output-file: exit code %d, stderr %s", got.exitCode, got.stderr)
	}
	if left := len(tokenEnds(t, server)); left != 1 {
		t.Errorf("the cluster has %d tokens, want 1", left)
	}
}

// TestAFullDisk fills the disk that tokens are written to.
func TestAFullDisk(t *testing.T) {
	server := borrowServer(t, "k3s")
	dir := t.TempDir()
	mount(t, dir, "size=4k", 0)
	for range 2 {
		got := runIn(t, server, dir, "create", "--count", "100", "--output-file", "tokens")
		if got.exitCode != 1 || !strings.Contains(got.stderr, "error: --output-file: ") || !strings.Contains(got.stderr, "no space left on device") || !strings.Contains(got.stderr, "no token was left in the cluster that you have not seen") {
			t.Errorf("exit code %d, stderr %s", got.exitCode, redact([]any{got.stderr})[0])
		}
		if left := len(tokenEnds(t, server)); left > 0 {
			t.Errorf("the cluster has %d tokens", left)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			t.Errorf("left on the disk: %v (%v)", entries, err)
		}
	}
	// There is room for less.
	if got := runIn(t, server, dir, "create", "--count", "10", "--output-file", "tokens"); got.exitCode != 0 {
		t.Errorf("exit code %d, stderr %s", got.exitCode, redact([]any{got.stderr})[0])
	}
}

// runIn runs the plugin where its folder, its home and the folder for temporary
// files are one.
func runIn(t *testing.T, server *k3stest.Server, dir string, args ...string) result {
	t.Helper()
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, binary, args...)
	command.Dir, command.Stdout, command.Stderr = dir, &stdout, &stderr
	command.Env = []string{"KUBECONFIG=" + server.Kubeconfig, "HOME=" + dir, "TMPDIR=" + dir}
	_ = command.Run() // the exit code says how it ended
	return result{stdout: stdout.String(), stderr: stderr.String(), exitCode: exitCode(command.ProcessState)}
}
