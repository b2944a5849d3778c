package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// forms are how a secret can stand in a text: as it is, or as an encoding has
// it. Of base64 only what does not hang on its neighbours counts.
func forms(secret string) map[string]string {
	quoted, err := json.Marshal(secret)
	if err != nil {
		panic(err) // a string can be marshalled
	}
	numbers := make([]string, len(secret))
	for i := range secret {
		numbers[i] = strconv.Itoa(int(secret[i]))
	}
	all := map[string]string{
		"as it is":        secret,
		"as JSON":         strings.Trim(string(quoted), `"`),
		"as Go has it":    strings.Trim(fmt.Sprintf("%q", secret), `"`),
		"in a query":      url.QueryEscape(secret),
		"in a path":       url.PathEscape(secret),
		"hexadecimal":     hex.EncodeToString([]byte(secret)),
		"HEXADECIMAL":     strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"numbers":         strings.Join(numbers, " "),
		"numbers, commas": strings.Join(numbers, ","),
	}
	for offset := range 3 {
		shifted := []byte(strings.Repeat("x", offset) + secret)
		whole := len(shifted) / 3 * 4 // the last group may have something behind it
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64 for URLs": base64.RawURLEncoding} {
			encoded := encoding.EncodeToString(shifted)[:whole]
			if offset > 0 {
				encoded = encoded[4:]
			}
			all[fmt.Sprintf("%s, %d", name, offset)] = encoded
		}
	}
	return all
}

var dumpLine = regexp.MustCompile(`(?m)^.*?[0-9a-f]{8}  ((?:[0-9a-f]{2} ? ?)+).*$`)

// leak returns the form in which a text holds a secret, or nothing.
func leak(text, secret string) string {
	// A hex dump has sixteen bytes a line, with an offset before and the
	// characters behind.
	bytesOnly := strings.Join(strings.Fields(dumpLine.ReplaceAllString(text, "$1")), "")
	for name, form := range forms(secret) {
		if strings.Contains(text, form) || strings.Contains(bytesOnly, form) {
			return name
		}
	}
	return ""
}

func TestLeakKnowsASecretInEveryForm(t *testing.T) {
	const secret = "e2e-thesecret\"7%&<1>\\word"
	for name, form := range forms(secret) {
		if leak("before "+form+" behind", secret) == "" {
			t.Errorf("%s: it is not seen", name)
		}
	}
	body := []byte("something before " + secret + " and behind")
	for name, text := range map[string]string{
		"base64 of a body":    base64.StdEncoding.EncodeToString(body),
		"a shifted one":       base64.StdEncoding.EncodeToString(body[1:]),
		"one shifted further": base64.URLEncoding.EncodeToString(body[2:]),
		"a dump":              `"Request Body" body=<` + "\n\t" + strings.ReplaceAll(hex.Dump(body), "\n", "\n\t"),
	} {
		if leak(text, secret) == "" {
			t.Errorf("%s: it is not seen", name)
		}
	}
	if form := leak(hex.Dump([]byte("nothing to be seen here, and nothing either there")), secret); form != "" {
		t.Errorf("%s: it is seen where it is not", form)
	}
}

// spy runs commands, and looks for secrets in all that they leave.
type spy struct {
	server  *k3stest.Server
	inputs  string // files with secrets that commands read
	secrets map[string]string
}

func (s *spy) input(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(s.inputs, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A spied is a command, and what it may show.
type spied struct {
	args  []string
	stdin string
	env   []string
	// asked says that standard output is to show a token.
	asked bool
	// file is one that is to hold a token.
	file string
	// stdout is where standard output goes instead, such as /dev/full.
	stdout string
}

// watch runs a command at -v=9, and fails the test where a secret is found in
// what it prints, logs or writes, or in the arguments of its child processes.
func (s *spy) watch(t *testing.T, c spied) result {
	t.Helper()
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, binary, append(c.args, "-v=9")...)
	command.Dir, command.Stdin, command.Stdout, command.Stderr = home, strings.NewReader(c.stdin), &stdout, &stderr
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + s.server.Kubeconfig, "HOME=" + home, "TMPDIR=" + home}, c.env...)
	if c.stdout != "" {
		file, err := os.OpenFile(c.stdout, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		command.Stdout = file
	}
	_ = command.Run() // commands that fail are of interest too
	got := result{stdout: stdout.String(), stderr: stderr.String(), exitCode: exitCode(command.ProcessState)}

	texts := map[string]string{"standard error": got.stderr}
	if !c.asked {
		texts["standard output"] = got.stdout
	}
	err = filepath.WalkDir(home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == c.file {
			return err
		}
		content, err := os.ReadFile(path)
		texts["the file "+entry.Name()] = entry.Name() + "\n" + string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range texts {
		for name, secret := range s.secrets {
			if form := leak(text, secret); form != "" {
				t.Errorf("%s: %s shows %s (%s)", s.masked(strings.Join(c.args, " ")), where, name, form)
			}
		}
	}
	return got
}

// masked takes the secrets out of a test's own words.
func (s *spy) masked(text string) string {
	for name, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "<"+name+">")
	}
	return redact([]any{text})[0].(string)
}

func TestNoSecretIsShownByAnyCommand(t *testing.T) {
	besideOthers(t)
	requireBuilt(t, "k3s")
	const (
		known     = "thesecret0123456"
		special   = `e2e"x%y&z<1>\w'0123456789`
		notAToken = "hunter2-hunter2-hunter2"
	)
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	s := &spy{server: server, inputs: t.TempDir(), secrets: map[string]string{
		"the bootstrap token's secret": known, "the server token's password": firstPassword, "the new password": special,
		"the second password": secondPassword, "what was given instead of a token": notAToken,
	}}
	current, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.TrimPrefix(current, "K10")[:64]
	secure, id := "K10"+hash+"::abcdef."+known, "abcdef."+known
	other := "K10" + strings.Repeat("0", 64) + "::abcdef." + known
	node := s.input(t, "node-token", current+"\n")
	wrong := s.input(t, "wrong-token", "K10"+hash+"::server:"+secondPassword+"\n")
	next := s.input(t, "next-token", special+"\n")
	cut := s.input(t, "cut-token", secure[:len(secure)-3])
	two := s.input(t, "two-tokens", secure+"\n"+id+"\n")
	s.secrets["most of the bootstrap token's secret"] = known[:13]

	// Three ways to log in: with a key, with a token, and with a program.
	bearer := adminToken(t, server, "spied")
	s.secrets["the kubeconfig's token"] = bearer
	_, signature, _ := strings.Cut(bearer[strings.Index(bearer, ".")+1:], ".")
	s.secrets["the signature of the kubeconfig's token"] = signature
	key, err := os.ReadFile(filepath.Join(server.DataDir, "server", "tls", "client-admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	s.secrets["the kubeconfig's key"] = strings.Split(string(key), "\n")[1]
	cluster, _ := admin(t, server)
	withToken := filepath.Join(s.inputs, "token.kubeconfig")
	writeKubeconfig(t, withToken, cluster, map[string]any{"token": bearer}, "c")
	login := s.input(t, "login.sh", "#!/bin/sh\necho \"$0 $*\" >>\"$HOME/arguments\"\n"+
		`echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'"$(cat `+s.input(t, "bearer", bearer)+`)"'"}}'`+"\n")
	if err := os.Chmod(login, 0o700); err != nil {
		t.Fatal(err)
	}
	withProgram := filepath.Join(s.inputs, "exec.kubeconfig")
	writeKubeconfig(t, withProgram, cluster, map[string]any{"exec": map[string]any{
		"apiVersion": "client.authentication.k8s.io/v1", "command": login, "interactiveMode": "Never",
	}}, "c")
	const proxyPassword = "e2e-proxy-0a1b2c3d4e5f"
	s.secrets["the proxy's password"] = proxyPassword
	withProxy := filepath.Join(s.inputs, "proxy.kubeconfig")
	writeKubeconfig(t, withProxy, map[string]any{"server": server.URL, "certificate-authority": server.CAFile, "proxy-url": "http://user:" + proxyPassword + "@127.0.0.1:1"}, map[string]any{"token": bearer}, "c")
	withBasic := filepath.Join(s.inputs, "basic.kubeconfig")
	writeKubeconfig(t, withBasic, cluster, map[string]any{"username": "user", "password": proxyPassword}, "c")

	for _, c := range []spied{
		{args: []string{"create", id}, asked: true},
		{args: []string{"create", id}}, // it exists
		{args: []string{"create", "ghijkl." + known, "-o", "name"}},
		{args: []string{"create", "mnopqr." + known, "--output-file", "out"}, file: "out"},
		{args: []string{"create", "stuvwx." + known, "--dry-run=server", "-o", "yaml"}, asked: true},
		{args: []string{"create", "stuvwx." + known, "--print-join-command"}, asked: true},
		{args: []string{"create", "-"}, stdin: "yzabcd." + known + "\n", asked: true},
		{args: []string{"create", "-", "-o", "jsonpath={.nothing}", "--allow-missing-template-keys=false"}, stdin: "efghij." + known},
		{args: []string{"create", "efghij." + known, "-o", "go-template={{.token.x}}"}},
		{args: []string{"create", "efghij." + known}, stdout: "/dev/full"},
		{args: []string{"create", secure}},
		{args: []string{"create", notAToken}},
		{args: []string{"create", id, id}},
		{args: []string{"create", id, "--ttl", "-1h"}},
		{args: []string{"create", id, "--no-such-flag"}},
		{args: []string{"create", "efghij." + known, "--context", "nowhere"}},
		{args: []string{"create", "efghij." + known, "--server", "https://127.0.0.1:1"}},
		{args: []string{"create", "efghij." + known, "--request-timeout", "1ns"}},
		{args: []string{"create", "efghij." + known, "--as", "nobody"}},
		{args: []string{"create", "efghij." + known, "--kubeconfig", withToken}, asked: true},
		{args: []string{"create", "klmnop." + known, "--kubeconfig", withProgram}, asked: true},
		{args: []string{"create", "qrstuv." + known, "--kubeconfig", withProxy}},
		{args: []string{"create", "qrstuv." + known, "--kubeconfig", withBasic}},
		{args: []string{"create", "qrstuv." + known, "--kubeconfig", withToken, "--token", bearer + "x"}},
		{args: []string{"list"}}, {args: []string{"list", "-o", "wide"}}, {args: []string{"list", "-o", "json"}}, {args: []string{"list", "-o", "yaml"}},
		{args: []string{"list", "-o", "go-template={{.}}"}}, {args: []string{"list", "-o", "jsonpath={.items[0].x}", "--allow-missing-template-keys=false"}},
		{args: []string{"list", "--kubeconfig", withToken}}, {args: []string{"list", "--kubeconfig", withProgram, "--chunk-size", "1"}},
		{args: []string{"list", "--kubeconfig", withProxy}}, {args: []string{"list", "--kubeconfig", node}}, {args: []string{"list", id}},
		{args: []string{"extend", id, "--ttl", "1h"}}, {args: []string{"extend", secure, "--ttl", "1h", "-o", "yaml"}},
		{args: []string{"extend", "abcdef.fedcba9876543210", "zzzzzz." + known, notAToken, "--ttl", "1h"}},
		{args: []string{"extend", "zzzzzz." + known, other, "--ttl", "1h"}}, {args: []string{"extend", "-", "--ttl", "1h"}, stdin: id + "\n" + notAToken + "\n"},
		{args: []string{"verify", secure}}, {args: []string{"verify", secure, "-o", "json"}}, {args: []string{"verify", other}}, {args: []string{"verify", "--token", secure}},
		{args: []string{"verify", "-"}, stdin: id}, {args: []string{"verify"}, env: []string{"K3S_TOKEN=" + current}}, {args: []string{"verify", "--token-file", node}},
		{args: []string{"verify", "--token-file", wrong, "--old-token-file", node}}, {args: []string{"verify", "--token-file", wrong, "-o", "yaml"}},
		{args: []string{"verify", "--token-file", cut}}, {args: []string{"verify", "--token-file", two}}, {args: []string{"verify", notAToken}},
		{args: []string{"verify", secure, "--server", "https://127.0.0.1:1"}}, {args: []string{"verify", secure, "--server", "https://user:" + proxyPassword + "@127.0.0.1:1"}},
		{args: []string{"verify", secure, "--kubeconfig", withProgram}}, {args: []string{"verify", secure, "--kubeconfig", withProxy}},
		{args: []string{"verify", secure, "-o", "go-template={{.token.x.y}}"}}, {args: []string{"verify", secure}, stdout: "/dev/full"},
		{args: []string{"inspect", secure}}, {args: []string{"inspect", id, "-o", "json"}}, {args: []string{"inspect", "-"}, stdin: current},
		{args: []string{"inspect", "--token-file", cut}}, {args: []string{"inspect", "--token-file", two}}, {args: []string{"inspect", notAToken, "-o", "yaml"}},
		{args: []string{"inspect", secure, "-o", "go-template={{.token.x.y}}"}},
		{args: []string{"rotate", "--yes", "--token-file", node, "--new-token-file", next}},
		{args: []string{"rotate", "--yes", "--token-file", node, "--new-token", special, "--dry-run=client", "--allow-special-characters", "--allow-weak"}},
		{args: []string{"rotate", "--token-file", node, "--new-token-file", next, "--allow-special-characters", "--allow-weak", "--dry-run=server"}},
		{args: []string{"rotate", "--yes", "--token-file", wrong, "--new-token-file", next, "--allow-special-characters", "--allow-weak"}},
		{args: []string{"rotate", "--yes", "--token-file", node, "--new-token", id}}, {args: []string{"rotate", "--yes", "-t", id}}, {args: []string{"rotate", "--yes", "-t", current, "--new-token", firstPassword}},
		{args: []string{"rotate", "--token-file", node}}, {args: []string{"rotate", notAToken}}, {args: []string{"rotate", "--yes"}, env: []string{"K3S_TOKEN=" + secure}},
		{args: []string{"version"}}, {args: []string{"version", "--kubeconfig", withToken, "-o", "json"}}, {args: []string{"completion", notAToken}},
		{args: []string{"__complete", "delete", "--kubeconfig", withToken, ""}}, {args: []string{"__complete", "delete", id}},
		{args: []string{secure}}, {args: []string{notAToken}}, {args: []string{"generate", secure}}, {args: []string{"help", notAToken}},
		{args: []string{"delete", "abcdef.fedcba9876543210"}}, {args: []string{"delete", other, "--dry-run=server"}}, {args: []string{"delete", notAToken}},
		{args: []string{"delete", "-"}, stdin: id + "\n" + notAToken}, {args: []string{"delete", id, secure}}, {args: []string{"delete", "--all", "--yes", "--kubeconfig", withProgram}},
		// What changes the server token comes last.
		{args: []string{"rotate", "--yes", "--token-file", node, "--new-token-file", next, "--allow-special-characters", "--allow-weak", "-o", "json"}, asked: true},
		{args: []string{"verify", "--token-file", node, "--old-token-file", next}},
	} {
		s.watch(t, c)
	}
	s.drawn(t)
	if got := s.watch(t, spied{args: []string{"list", "--kubeconfig", withProgram}}); got.exitCode != 0 || !strings.Contains(got.stderr, "<not shown, as it may hold secrets: ") || !strings.Contains(got.stderr, "curl -v -XGET") {
		t.Errorf("exit code %d: the log at -v=9 has %d bytes, and shows no requests", got.exitCode, len(got.stderr))
	}
	if got := s.watch(t, spied{args: []string{"list", "--kubeconfig", withToken}}); !strings.Contains(got.stderr, "Authorization: Bearer <masked>") {
		t.Error("the log at -v=9 does not show where credentials were sent")
	}
}

// drawn looks for tokens that the plugin makes itself: they are on standard
// output, and nowhere else.
func (s *spy) drawn(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"create"}, {"create", "--count", "3", "-o", "json"}, {"create", "--print-join-command=config"}, {"generate"}, {"generate", "--type", "server", "--count", "5"}, {"generate", "--type", "agent", "-o", "yaml"},
	} {
		got := s.watch(t, spied{args: args, asked: true})
		found := regexp.MustCompile(`(?:[a-z0-9]{6}\.|::server:|::node:|\b)([a-z0-9]{16}|[0-9a-f]{32,})\b`).FindAllStringSubmatch(got.stdout, -1)
		if got.exitCode != 0 || len(found) == 0 {
			t.Fatalf("%v: exit code %d, and no token", args, got.exitCode)
		}
		for _, match := range found {
			if form := leak(strings.ReplaceAll(got.stderr, hashOf(got.stdout), ""), match[1]); form != "" && match[1] != hashOf(got.stdout) {
				t.Errorf("%v: standard error shows what was drawn (%s)", args, form)
			}
		}
	}
}

// hashOf is the CA hash in a text, which is no secret.
func hashOf(text string) string {
	if match := regexp.MustCompile(`[0-9a-f]{64}`).FindString(text); match != "" {
		return match
	}
	return "no hash"
}

// adminToken makes a ServiceAccount of that name that may do all, and returns a token of it.
func adminToken(t *testing.T, server *k3stest.Server, name string) string {
	t.Helper()
	for path, object := range map[string]string{
		"/api/v1/namespaces/kube-system/serviceaccounts": `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"` + name + `"}}`,
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"` + name + `"},
			"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","name":"` + name + `","namespace":"kube-system"}]}`,
	} {
		if _, err := call(server, http.MethodPost, path, "application/json", []byte(object)); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := call(server, http.MethodPost, "/api/v1/namespaces/kube-system/serviceaccounts/"+name+"/token", "application/json",
		[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}`))
	if err != nil {
		t.Fatal(err)
	}
	var response struct{ Status struct{ Token string } }
	if err := json.Unmarshal(answer, &response); err != nil || response.Status.Token == "" {
		t.Fatalf("no token: %v", err)
	}
	return response.Status.Token
}
