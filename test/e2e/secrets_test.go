package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// forms are how a secret can stand in a text. Of base64 only the part counts that
// does not depend on its neighbours.
func forms(secret string) map[string]string {
	quoted, err := json.Marshal(secret)
	if err != nil {
		panic(err) // a string can be marshalled
	}
	all := map[string]string{
		"as it is":    secret,
		"as JSON":     strings.Trim(string(quoted), `"`),
		"in a query":  url.QueryEscape(secret),
		"hexadecimal": hex.EncodeToString([]byte(secret)),
	}
	for offset := range 3 {
		shifted := strings.Repeat("x", offset) + secret
		encoded := base64.StdEncoding.EncodeToString([]byte(shifted))[:len(shifted)/3*4]
		if offset > 0 {
			encoded = encoded[4:]
		}
		all[fmt.Sprintf("base64, %d", offset)] = encoded
	}
	return all
}

// leak returns the form in which a text holds a secret, or nothing.
func leak(text, secret string) string {
	for name, form := range forms(secret) {
		if strings.Contains(text, form) {
			return name
		}
	}
	return ""
}

// spy runs commands, and looks for secrets in all that they leave.
type spy struct {
	server  *k3stest.Server
	secrets map[string]string
}

// spied is a command, and what it may show.
type spied struct {
	args  []string
	stdin string
	env   string
	// asked says that standard output is to show a token.
	asked bool
	// file is one that is to hold a token.
	file string
}

// watch runs a command at -v=9, and fails the test if a secret is found in what
// it prints, logs or writes.
func (s *spy) watch(t *testing.T, c spied) result {
	t.Helper()
	r := newRun(t, s.server.Kubeconfig, append(c.args, "-v=9")...)
	r.Env = append(r.Env, c.env)
	r.Stdin = strings.NewReader(c.stdin)
	r.begin()
	got := r.end()
	texts := map[string]string{"standard error": got.stderr}
	if !c.asked {
		texts["standard output"] = got.stdout
	}
	err := filepath.WalkDir(r.Dir, func(path string, entry fs.DirEntry, err error) error {
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
				command := strings.NewReplacer(s.pairs()...).Replace(strings.Join(c.args, " "))
				t.Errorf("%s: %s shows %s (%s)", redact(command), where, name, form)
			}
		}
	}
	return got
}

func (s *spy) pairs() []string {
	var pairs []string
	for name, secret := range s.secrets {
		pairs = append(pairs, secret, "<"+name+">")
	}
	return pairs
}

func TestNoCommandShowsASecret(t *testing.T) {
	t.Parallel()
	const (
		known     = "thesecret0123456"
		notAToken = "hunter2-hunter2-hunter2"
		proxyWord = "e2e-proxy-0a1b2c3d4e5f"
	)
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	current, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	bearer := adminToken(t, server)
	s := &spy{server: server, secrets: map[string]string{
		"the bootstrap token's secret": known, "the server token's password": firstPassword, "the new password": secondPassword,
		"text given instead of a token": notAToken, "the proxy's password": proxyWord, "the kubeconfig's token": bearer,
		"most of the bootstrap token's secret": known[:13],
	}}
	dir := t.TempDir()
	hash := strings.TrimPrefix(current, "K10")[:64]
	id, secure, other := "abcdef."+known, "K10"+hash+"::abcdef."+known, "K10"+strings.Repeat("0", 64)+"::abcdef."+known
	node, wrong := writeFile(t, dir, "node", current+"\n"), writeFile(t, dir, "wrong", "K10"+hash+"::server:"+secondPassword+"\n")
	next, cut, two := writeFile(t, dir, "next", secondPassword+"\n"), writeFile(t, dir, "cut", secure[:len(secure)-3]), writeFile(t, dir, "two", secure+"\n"+id+"\n")
	withToken := kubeconfigAs(t, server, clientcmdapi.AuthInfo{Token: bearer})
	withBasic := kubeconfigAs(t, server, clientcmdapi.AuthInfo{Username: "user", Password: proxyWord})
	withProxy := "http://user:" + proxyWord + "@127.0.0.1:1"
	for _, c := range []spied{
		{args: []string{"create", id}, asked: true},
		{args: []string{"create", id}}, // it exists
		{args: []string{"create", "ghijkl." + known, "-o", "name"}},
		{args: []string{"create", "mnopqr." + known, "--output-file", "out"}, file: "out"},
		{args: []string{"create", "stuvwx." + known, "--dry-run=server", "-o", "yaml"}, asked: true},
		{args: []string{"create", "-"}, stdin: "yzabcd." + known + "\n", asked: true},
		{args: []string{"create", "-", "-o", "jsonpath={.nothing}", "--allow-missing-template-keys=false"}, stdin: "efghij." + known},
		{args: []string{"create", "efghij." + known, "-o", "go-template={{.token.x}}"}},
		{args: []string{"create", secure, id}}, {args: []string{"create", notAToken}}, {args: []string{"create", id, "--no-such-flag"}},
		{args: []string{"create", "efghij." + known, "--server", "https://127.0.0.1:1"}}, {args: []string{"create", "efghij." + known, "--as", "nobody"}},
		{args: []string{"create", "efghij." + known, "--kubeconfig", withToken}, asked: true},
		{args: []string{"create", "qrstuv." + known, "--proxy-url", withProxy}}, {args: []string{"create", "qrstuv." + known, "--kubeconfig", withBasic}},
		{args: []string{"list"}}, {args: []string{"list", "-o", "wide"}}, {args: []string{"list", "-o", "json"}}, {args: []string{"list", "-o", "kyaml"}},
		{args: []string{"list", "-o", "go-template={{.}}"}}, {args: []string{"list", id}}, {args: []string{"list", "--kubeconfig", node}},
		{args: []string{"list", "--proxy-url", withProxy}}, {args: []string{"list", "--kubeconfig", withToken, "--token", bearer + "x"}},
		{args: []string{"extend", id, "--ttl", "1h"}}, {args: []string{"extend", secure, "--ttl", "1h", "-o", "yaml"}},
		{args: []string{"extend", "abcdef.fedcba9876543210", "zzzzzz." + known, other, "--ttl", "1h"}},
		{args: []string{"extend", "-", "--ttl", "1h"}, stdin: id + "\n" + notAToken + "\n"},
		{args: []string{"verify", secure}}, {args: []string{"verify", secure, "-o", "json"}}, {args: []string{"verify", other}}, {args: []string{"verify", "--token", secure}},
		{args: []string{"verify", "-"}, stdin: id}, {args: []string{"verify"}, env: "K3S_TOKEN=" + current}, {args: []string{"verify", "--token-file", node}},
		{args: []string{"verify", "--token-file", wrong, "--old-token-file", node}}, {args: []string{"verify", "--token-file", cut}},
		{args: []string{"verify", "--token-file", two}}, {args: []string{"verify", notAToken}}, {args: []string{"verify", secure, "--server", "https://user:" + proxyWord + "@127.0.0.1:1"}},
		{args: []string{"verify", secure}, env: "HTTPS_PROXY=" + withProxy}, {args: []string{"verify", secure, "-o", "go-template={{.token.x.y}}"}},
		{args: []string{"inspect", secure}}, {args: []string{"inspect", id, "-o", "json"}}, {args: []string{"inspect", "-"}, stdin: current},
		{args: []string{"inspect", "--token-file", cut}}, {args: []string{"inspect", "--token-file", two}}, {args: []string{"inspect", notAToken, "-o", "yaml"}},
		{args: []string{secure}}, {args: []string{notAToken}}, {args: []string{"generate", secure}}, {args: []string{"completion", notAToken}}, {args: []string{"help", notAToken}},
		{args: []string{"version", "-o", "json"}}, {args: []string{"__complete", "delete", "--kubeconfig", withToken, ""}}, {args: []string{"__complete", "delete", id}},
		{args: []string{"delete", "abcdef.fedcba9876543210"}}, {args: []string{"delete", other, "--dry-run=server"}}, {args: []string{"delete", notAToken}},
		{args: []string{"delete", "-"}, stdin: id + "\n" + notAToken}, {args: []string{"delete", id, secure}},
		{args: []string{"rotate", "--token-file", node, "--new-token-file", next, "--dry-run=server"}}, {args: []string{"rotate", "--yes", "--token-file", wrong, "--new-token-file", next}},
		{args: []string{"rotate", "--yes", "--token-file", node, "--new-token", id}}, {args: []string{"rotate", "--yes", "-t", id}},
		{args: []string{"rotate", notAToken}}, {args: []string{"rotate", "--token-file", node}}, {args: []string{"rotate", "--yes"}, env: "K3S_TOKEN=" + secure},
		// The command that changes the server token comes last.
		{args: []string{"rotate", "--yes", "--token-file", node, "--new-token-file", next, "-o", "json"}, asked: true},
		{args: []string{"verify", "--token-file", node, "--old-token-file", next}},
	} {
		s.watch(t, c)
	}
	s.drawn(t)
	if got := s.watch(t, spied{args: []string{"list", "--kubeconfig", withToken}}); got.exitCode != 0 || !strings.Contains(got.stderr, "/api/v1/namespaces/kube-system/secrets") {
		t.Errorf("exit code %d: the log at -v=9 has %d bytes, and shows no requests", got.exitCode, len(got.stderr))
	}
}

// drawn looks for tokens that the plugin makes itself: they are on standard
// output, and nowhere else.
func (s *spy) drawn(t *testing.T) {
	t.Helper()
	secret := regexp.MustCompile(`[a-z0-9]{6}\.([a-z0-9]{16})\b|\b([0-9a-f]{32})\b`)
	for _, args := range [][]string{
		{"create"}, {"create", "--count", "3", "-o", "json"}, {"create", "--print-join-command=config"}, {"generate"}, {"generate", "--type", "server", "--count", "5"},
	} {
		got := s.watch(t, spied{args: args, asked: true})
		found := secret.FindAllStringSubmatch(got.stdout, -1)
		if got.exitCode != 0 || len(found) == 0 {
			t.Errorf("%v: exit code %d, and no token", args, got.exitCode)
		}
		for _, match := range found {
			if form := leak(got.stderr, match[1]+match[2]); form != "" {
				t.Errorf("%v: standard error shows the secret (%s)", args, form)
			}
		}
	}
}

// adminToken makes a ServiceAccount that may do all, and returns a token of it.
func adminToken(t *testing.T, server *k3stest.Server) string {
	t.Helper()
	const binding = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"spied"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},
		"subjects":[{"kind":"ServiceAccount","name":"spied","namespace":"kube-system"}]}`
	accounts := server.Core.ServiceAccounts(metav1.NamespaceSystem)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "spied"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Core.RESTClient().Post().AbsPath("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings").
		SetHeader("Content-Type", "application/json").Body([]byte(binding)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	request, err := accounts.CreateToken(t.Context(), "spied", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}
