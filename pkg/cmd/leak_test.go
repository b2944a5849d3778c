package cmd_test

import (
	"encoding/base64"
	"encoding/hex"
	"flag"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

// shows tells whether a text holds the secret as it is, or as a log shows a
// body: in JSON, in base64 at any offset, or as hexadecimal digits.
func shows(text, secret string) bool {
	// A hex dump has sixteen bytes a line, with an offset before and the
	// characters behind.
	dump := regexp.MustCompile(`(?m)^.*?[0-9a-f]{8}  ((?:[0-9a-f]{2} ? ?)+).*$`).ReplaceAllString(text, "$1")
	squeezed := strings.Join(strings.Fields(strings.ReplaceAll(dump, "|", "")), "")
	for offset := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + secret))
		if strings.Contains(text, encoded[4:16]) {
			return true
		}
	}
	return strings.Contains(text, secret) || strings.Contains(squeezed, hex.EncodeToString([]byte(secret)))
}

func TestShowsKnowsTheSecretInEveryForm(t *testing.T) {
	body := "some bytes before " + secretPart + " and behind"
	for name, text := range map[string]string{
		"as it is": body,
		"base64":   base64.StdEncoding.EncodeToString([]byte(body)),
		"hex":      hex.EncodeToString([]byte(body)),
		"dump":     `"Response Body" body=<` + "\n\t" + strings.ReplaceAll(hex.Dump([]byte(body)), "\n", "\n\t"),
	} {
		if !shows(text, secretPart) {
			t.Errorf("%s: not seen", name)
		}
	}
	if shows(hex.Dump([]byte("nothing to be seen here")), secretPart) {
		t.Error("seen where it is not")
	}
}

// resetLog brings klog's own levels, which hold for the whole process, back when
// the test is over.
func resetLog(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		var flags flag.FlagSet
		klog.InitFlags(&flags)
		_ = flags.Set("v", "0")
		klog.ClearLogger()
	})
}

func TestTheLogHasTheRequestsToTheSupervisor(t *testing.T) {
	resetLog(t)
	_, peers := newPeers(t)
	server := peers.NewServer(t)
	for _, verbosity := range []string{"-v=5", "-v=6", "-v=9"} {
		got := peerCall{args: []string{"verify", "-s", server.URL, "-", verbosity}, stdin: peers.Token(serverPassword)}.run(t)
		got.hides(t, serverPassword)
		for _, path := range []string{"/cacerts", "/v1-k3s/"} {
			line := regexp.MustCompile(`"Supervisor response" verb="GET" url="` + regexp.QuoteMeta(server.URL+path) + `[^"]*" status=\d+ milliseconds=\d+`)
			if shown := line.MatchString(got.stderr); shown != (verbosity != "-v=5") {
				t.Errorf("%s: %s is shown: %v; stderr:\n%s", verbosity, path, shown, got.stderr)
			}
		}
	}
	const nobody = "https://127.0.0.1:1"
	got := peerCall{args: []string{"verify", "-s", nobody, "-", "-v=6"}, stdin: peers.Token(serverPassword)}.run(t)
	if !strings.Contains(got.stderr, `"No response" verb="GET" url="`+nobody+`/cacerts" reason="nothing listens on`) {
		t.Errorf("a request that fails is not shown:\n%s", got.stderr)
	}
}

func TestTheLogHoldsNoSecretAtAnyLevel(t *testing.T) {
	resetLog(t)
	inJSON := func(c *cluster) apitest.Hook {
		return func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			req.Header.Set("Accept", "application/json")
			c.Serve(w, req)
			return true
		}
	}
	for _, verbosity := range []string{"-v=6", "-v=8", "-v=9", "-v=10", "-v=99"} {
		for name, hook := range map[string]func(*cluster) apitest.Hook{"protobuf": nil, "JSON": inJSON} {
			c := newCluster(t)
			if hook != nil {
				c.Handle(hook(c))
			}
			for _, args := range [][]string{{"create", given, "-o", "name"}, {"list"}, {"extend", "abcdef", "--ttl", "1h"}, {"extend", given, "--ttl", "1h", "--dry-run=server"}, {"delete", given}} {
				got := c.run(t, append(args, verbosity)...)
				if got.code != 0 || !strings.Contains(got.stderr, "Request") && verbosity != "-v=6" {
					t.Errorf("%s %s %s: exit code %d, and a log of %d bytes", args[0], verbosity, name, got.code, len(got.stderr))
				}
				if shows(got.stderr, secretPart) || shows(got.out, secretPart) {
					t.Errorf("%s %s %s shows the secret", args[0], verbosity, name)
				}
				if strings.Contains(got.stderr, "Bearer bearer") {
					t.Errorf("%s %s %s shows the credentials of the kubeconfig", args[0], verbosity, name)
				}
			}
		}
	}
	c := newCluster(t)
	got := c.run(t, "create", "-v=9")
	_, credentials, _ := strings.Cut(strings.TrimSpace(got.out), ".")
	if got.code != 0 || credentials == "" || shows(got.stderr, credentials) {
		t.Error("the log shows a token that was drawn")
	}
	if !strings.Contains(got.stderr, "<not shown, as it may hold secrets: ") {
		t.Error("the log has no bodies: is anything left out?")
	}
}

func TestVerbosityZeroLogsNothing(t *testing.T) {
	c := newCluster(t)
	c.run(t, "list", "-v=0").wants(t, 0, "", "No bootstrap tokens found.\n")
	c.run(t, "list", "-v=-1").wants(t, 0, "", "No bootstrap tokens found.\n")
	c.run(t, "list", "-v=many").wants(t, 1, "", "error: invalid argument \"many\"")
}

// The printers put what they were given into their errors.
func TestATemplatesErrorHoldsNoSecret(t *testing.T) {
	for _, template := range []string{"jsonpath={.token[?(@.x)]}", "jsonpath={.nothing}", "go-template={{.token.nothing}}"} {
		for _, kind := range []string{"bootstrap", "server"} {
			// The random source is the same each time.
			drawn := strings.TrimSpace(offline(t, "generate", "--type", kind).out)
			secret := drawn[strings.Index(drawn, ".")+1:]
			got := offline(t, "generate", "--type", kind, "--allow-missing-template-keys=false", "-o", template)
			got.wants(t, 1, "", "error executing ")
			if len(secret) < 16 || shows(got.stderr, secret) {
				t.Errorf("%s of a %s token: the error shows the secret", template, kind)
			}
			if strings.Contains(got.stderr, "object given") || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%s of a %s token: the error has %d lines", template, kind, strings.Count(got.stderr, "\n"))
			}
		}
	}
}
