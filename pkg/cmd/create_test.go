package cmd_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

var secretsResource = schema.GroupResource{Resource: "secrets"}

func TestCreatePrintsTheTokenAlone(t *testing.T) {
	c := newCluster(t)
	got := c.run(t, "create")
	got.wants(t, 0, "K10"+c.caHash+"::", "")
	if !regexp.MustCompile(`\AK10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}\n\z`).MatchString(got.out) {
		t.Errorf("stdout holds %d bytes, want a token alone on its line", len(got.out))
	}
	names := c.Names()
	if len(names) != 1 {
		t.Fatalf("the cluster holds %v", names)
	}
	secret := c.Secret(names[0])
	_, credentials, _ := strings.Cut(strings.TrimSpace(got.out), "::")
	if string(secret.Data["token-id"])+"."+string(secret.Data["token-secret"]) != credentials {
		t.Error("the token in the cluster is another one")
	}
	if expiration := string(secret.Data["expiration"]); expiration != "2025-06-02T12:00:00Z" {
		t.Errorf("it ends at %s, want in 24 hours", expiration)
	}
	if groups := string(secret.Data["auth-extra-groups"]); groups != defaultGroup {
		t.Errorf("groups %q", groups)
	}
}

// The CA of a cluster tells mostly what made it; where it does not, the server
// is asked.
func TestCreateMakesNoMoreRequestsThanItNeeds(t *testing.T) {
	for name, test := range map[string]struct {
		ca   string // its CA, of the token package; empty for one that says nothing
		args []string
		want []string
	}{
		"CA of K3s":               {"single.pem", nil, []string{"GET configmaps/kube-root-ca.crt", "POST secrets"}},
		"CA of somebody else":     {"", nil, []string{"GET configmaps/kube-root-ca.crt", "GET /version", "POST secrets"}},
		"the groups given":        {"", []string{"--groups", defaultGroup}, []string{"GET configmaps/kube-root-ca.crt", "POST secrets"}},
		"install line with a CA":  {"single.pem", []string{"--print-join-command", "--url", "https://k3s.example.com:6443"}, []string{"GET configmaps/kube-root-ca.crt", "GET /version", "POST secrets"}},
		"only the time is needed": {"", []string{"--token-format", "short", "--groups", defaultGroup}, []string{"GET /version", "POST secrets"}},
		"nothing is needed":       {"", []string{"--token-format", "short", "--groups", defaultGroup, "--ttl", "0"}, []string{"POST secrets"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if test.ca != "" {
				ca, err := os.ReadFile(filepath.Join("..", "token", "testdata", test.ca))
				if err != nil {
					t.Fatal(err)
				}
				c.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(ca)})
			}
			if got := c.run(t, append([]string{"create"}, test.args...)...); got.code != 0 {
				t.Fatal(got.stderr)
			}
			c.asked(t, test.want)
		})
	}
}

func (c *cluster) asked(t *testing.T, want []string) {
	t.Helper()
	var got []string
	for _, request := range c.Requests() {
		got = append(got, request.String())
		if agent := request.Header.Get("User-Agent"); !strings.HasPrefix(agent, "kubectl-k3s_token/v0.0.0-test (") {
			t.Errorf("user agent %q", agent)
		}
		if authorization := request.Header.Get("Authorization"); authorization != "Bearer bearer" {
			t.Errorf("%s carries no credentials", request)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests %v, want %v", got, want)
	}
}

func TestCreateTakesATokenOfTheUsers(t *testing.T) {
	for name, call := range map[string]call{
		"as an argument":      {args: []string{"create", given}},
		"on stdin":            {args: []string{"create", "-"}, stdin: given},
		"on a line of stdin":  {args: []string{"create", "-"}, stdin: given + "\n"},
		"on a line with CRLF": {args: []string{"create", "-"}, stdin: given + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			call.cluster = c
			call.run(t).wants(t, 0, "K10"+c.caHash+"::"+given+"\n", "")
			c.holds(t, "abcdef")
		})
	}
}

func TestCreateNeverOverwritesAGivenToken(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	before := c.Secret("bootstrap-token-abcdef")
	got := c.run(t, "create", given)
	got.wants(t, 1, "", `error: token "abcdef" already exists: choose another id, or leave TOKEN out to have one made`)
	got.hides(t, secretPart)
	if len(c.Writes()) != 1 || c.Secret("bootstrap-token-abcdef").ResourceVersion != before.ResourceVersion {
		t.Errorf("writes %v, want one that changes nothing", c.Writes())
	}
}

func TestCreateRefusesBeforeItAsksTheCluster(t *testing.T) {
	ca := writeFile(t, "ca.crt", "garbage")
	exists := writeFile(t, "exists", "")
	for name, test := range map[string]struct {
		args  []string
		stdin string
		want  string
	}{
		"malformed token":           {[]string{"create", "abcdef." + secretPart + "x"}, "", "error: malformed TOKEN: token secret: it has 17 characters instead of 16"},
		"secure token":              {[]string{"create", "K10::" + given}, "", "it is in secure format"},
		"two tokens":                {[]string{"create", given, given}, "", "2 arguments given: it takes one TOKEN at most"},
		"two tokens on stdin":       {[]string{"create", "-"}, given + "\n" + given, "standard input has several lines"},
		"nothing on stdin":          {[]string{"create", "-"}, "\n", "standard input is empty"},
		"negative ttl":              {[]string{"create", "--ttl", "-1h"}, "", "negative duration"},
		"ttl that is no time":       {[]string{"create", "--ttl", "soon"}, "", `--ttl: invalid duration "soon"`},
		"ttl too short":             {[]string{"create", "--ttl", "999ms"}, "", "would expire before it is printed"},
		"ttl below everything":      {[]string{"create", "--ttl", "0.1ns"}, "", "shorter than a nanosecond"},
		"ttl too long":              {[]string{"create", "--ttl", "101000d"}, "", "longer than 100 years"},
		"end without zone":          {[]string{"create", "--expires-at", "2030-01-31T12:00:00"}, "", "not a time in RFC 3339"},
		"end in the past":           {[]string{"create", "--expires-at", "2025-06-01T11:59:59Z"}, "", "is in the past"},
		"end now":                   {[]string{"create", "--expires-at", "2025-06-01T12:00:00Z"}, "", "is in the past"},
		"end in the year 1":         {[]string{"create", "--expires-at", "0001-01-01T00:00:00Z"}, "", "is in the past"},
		"end too late":              {[]string{"create", "--expires-at", "2925-06-01T12:00:00Z"}, "", "more than 100 years ahead"},
		"ttl and end":               {[]string{"create", "--ttl", "1h", "--expires-at", "2030-01-31T12:00:00Z"}, "", "none of the others can be"},
		"unknown usage":             {[]string{"create", "--usages", "sign"}, "", `unknown usage "sign"`},
		"no usage":                  {[]string{"create", "--usages", ""}, "", "without a usage"},
		"bad group":                 {[]string{"create", "--groups", "system:masters"}, "", `invalid group "system:masters"`},
		"no tokens":                 {[]string{"create", "--count", "0"}, "", "from 1 to 10000"},
		"too many tokens":           {[]string{"create", "--count", "10001"}, "", "from 1 to 10000"},
		"count and token":           {[]string{"create", given, "--count", "2"}, "", "leave TOKEN out"},
		"unknown token format":      {[]string{"create", "--token-format", "long"}, "", "it takes secure or short"},
		"unknown output":            {[]string{"create", "-o", "xml"}, "", `unknown output format "xml": use json, yaml, kyaml, text, name,`},
		"wide is list's":            {[]string{"create", "-o", "wide"}, "", `unknown output format "wide"`},
		"malformed jsonpath":        {[]string{"create", "-o", "jsonpath={.token"}, "", "error parsing jsonpath"},
		"malformed go-template":     {[]string{"create", "-o", "go-template={{.token"}, "", "error parsing template"},
		"unknown join command":      {[]string{"create", "--print-join-command=server"}, "", "it takes install, agent, config"},
		"join command and output":   {[]string{"create", "--print-join-command", "-o", "json"}, "", "choose one"},
		"join file and count":       {[]string{"create", "--print-join-command=config", "--count", "2"}, "", "leave out --count"},
		"CA file that is missing":   {[]string{"create", "--ca-file", filepath.Join(t.TempDir(), "missing")}, "", "--ca-file: "},
		"CA file that is none":      {[]string{"create", "--ca-file", ca}, "", "no PEM certificate found"},
		"unknown dry run":           {[]string{"create", "--dry-run=maybe"}, "", `it takes "none", "server", or "client"`},
		"unknown flag":              {[]string{"create", "--nothing"}, "", "unknown flag: --nothing"},
		"dry run: malformed answer": {[]string{"create", "--dry-run=client", "--output-file", exists, "--count", "0"}, "", "from 1 to 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			got := call{cluster: c, args: test.args, stdin: test.stdin}.run(t)
			got.wants(t, 1, "", test.want)
			got.hides(t, secretPart)
			if writes := c.Writes(); len(writes) > 0 {
				t.Errorf("writes %v", writes)
			}
		})
	}
}

func TestCreateWritesNothingWhereItCannotPrint(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*cluster)
		args    []string
		want    string
	}{
		"no CA": {func(c *cluster) {
			c.SetConfigMap("kube-root-ca.crt", map[string]string{})
			c.writeKubeconfig(t, func(cluster *clientcmdapi.Cluster) { cluster.InsecureSkipTLSVerify = true })
		}, nil, "--ca-file"},
		"no version for the install line": {func(c *cluster) {
			c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				if req.Path != "/version" {
					return false
				}
				apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "", errors.New("no")))
				return true
			})
		}, []string{"--print-join-command"}, "Error from server (Forbidden)"},
		"bad URL":                  {nil, []string{"--url", "k3s.example.com"}, "is not the URL of a server"},
		"template that fails":      {nil, []string{"-o", "go-template={{.token.nothing}}"}, "error executing template"},
		"template beyond the end":  {nil, []string{"-o", "go-template={{slice .token 0 1000}}"}, "error executing template"},
		"jsonpath that fails":      {nil, []string{"-o", "jsonpath={.nothing}", "--allow-missing-template-keys=false"}, "nothing is not found"},
		"file that exists":         {nil, []string{"--output-file", writeFile(t, "exists", "")}, "exists already: name a new file"},
		"standard output as file":  {nil, []string{"--output-file", "-"}, `"-" is no file`},
		"empty kind of join":       {nil, []string{"--print-join-command="}, "--print-join-command is empty"},
		"folder that does not":     {nil, []string{"--output-file", filepath.Join(t.TempDir(), "missing", "file")}, "--output-file: "},
		"name that is too long":    {nil, []string{"--output-file", filepath.Join(t.TempDir(), strings.Repeat("n", 300))}, "error: --output-file: "},
		"file as a folder":         {nil, []string{"--output-file", filepath.Join(writeFile(t, "file", ""), "token")}, "error: --output-file: "},
		"a folder instead of file": {nil, []string{"--output-file", t.TempDir()}, "exists already"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if test.prepare != nil {
				test.prepare(c)
			}
			got := c.run(t, append([]string{"create", given}, test.args...)...)
			got.wants(t, 1, "", test.want)
			got.hides(t, secretPart)
			if writes := c.Writes(); len(writes) > 0 {
				t.Errorf("writes %v", writes)
			}
		})
	}
	t.Run("stdout that is closed", func(t *testing.T) {
		c := newCluster(t)
		got := call{cluster: c, args: []string{"create", given}, stdout: closedWriter{}}.run(t)
		got.wants(t, 1, "", "error: the token could not be written out: file already closed")
		if writes := c.Writes(); len(writes) > 0 {
			t.Errorf("writes %v", writes)
		}
	})
}

func TestCreateMakesNoTokenWhereNobodyGetsIt(t *testing.T) {
	c := newCluster(t)
	got := call{cluster: c, lost: true, args: []string{"create"}}.run(t)
	got.wants(t, 1, "", "error: the token could not be written out: standard output is closed")
	c.holds(t)
	file := filepath.Join(t.TempDir(), "token")
	for _, args := range [][]string{{given}, {"--output-file", file}, {"--dry-run=server"}} {
		if got := (call{cluster: c, lost: true, args: append([]string{"create"}, args...)}).run(t); got.code != 0 {
			t.Errorf("%s: exit code %d, stderr %s", args[0], got.code, mask(got.stderr))
		}
	}
	if names := c.Names(); len(names) != 2 {
		t.Errorf("the cluster holds %v", names)
	}
}

// closedWriter fails even on an empty write, as a closed file does.
type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestCreateRemovesATokenThatItCannotDeliver(t *testing.T) {
	for name, test := range map[string]struct {
		call call
		want string
	}{
		"disk full":    {call{stdout: brokenWriter{syscall.ENOSPC}}, "error: the token could not be written out: standard output: no space left on device"},
		"reader gone":  {call{stdout: brokenWriter{syscall.EPIPE}}, "error: the token could not be written out: standard output: broken pipe"},
		"short write":  {call{stdout: shortWriter{}}, "short write"},
		"late failure": {call{args: []string{"-o", `go-template={{if ne .id "aaaaaa"}}{{.token.nothing}}{{end}}`}}, "error executing template"},
		// Only a real Secret has a time, and no part of it.
		"late jsonpath failure": {call{args: []string{"-o", "jsonpath={.metadata.creationTimestamp[0]}"}}, "is not array or slice\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.put("ghijkl", nil)
			test.call.cluster = c
			test.call.args = append([]string{"create", given}, test.call.args...)
			got := test.call.run(t)
			got.wants(t, 1, "", test.want)
			got.hides(t, secretPart)
			c.holds(t, "ghijkl")
		})
	}
}

// shortWriter writes less than it is given, and is silent about it.
type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestCreateSaysWhereATokenIsLeft(t *testing.T) {
	c := newCluster(t)
	c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method != http.MethodDelete {
			return false
		}
		apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "bootstrap-token-abcdef", errors.New("no")))
		return true
	})
	got := call{cluster: c, args: []string{"create", given}, stdout: brokenWriter{syscall.ENOSPC}}.run(t)
	got.wants(t, 1, "", "delete --ignore-not-found abcdef\n")
	for _, want := range []string{"no space left on device", "Error from server (Forbidden)", "may hold tokens that you have not seen"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, mask(got.stderr))
		}
	}
	got.hides(t, secretPart)
}

func TestAnInterruptBetweenCreateAndPrintRemovesTheToken(t *testing.T) {
	for _, count := range []string{"1", "5"} {
		c := newCluster(t)
		ctx, interrupt := interruptible(t)
		c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			if req.Method == http.MethodPost {
				interrupt()
			}
			return false
		})
		got := call{cluster: c, ctx: ctx, args: []string{"create", "--count", count}}.run(t)
		got.wants(t, 130, "", "error: interrupted\n")
		c.holds(t)
	}
}

func TestAnInterruptBeforeCreateWritesNothing(t *testing.T) {
	c := newCluster(t)
	ctx, interrupt := interruptible(t)
	c.Handle(func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		interrupt()
		<-r.Context().Done()
		apitest.Cut()
		return true
	})
	got := call{cluster: c, ctx: ctx, args: []string{"create"}}.run(t)
	got.wants(t, 130, "", "error: interrupted\n")
	if strings.Contains(got.stderr, "context canceled") {
		t.Errorf("stderr %q speaks of contexts", got.stderr)
	}
	if writes := c.Writes(); len(writes) > 0 {
		t.Errorf("writes %v", writes)
	}
}

func TestCreateRemovesATokenWhoseAnswerWasLost(t *testing.T) {
	for name, spoil := range map[string]apitest.Hook{
		"connection cut": func(http.ResponseWriter, *http.Request, apitest.Request) bool { apitest.Cut(); return true },
		"internal error": func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			apitest.Fail(w, req, apierrors.NewInternalError(errors.New("no")))
			return true
		},
		"no answer in time": func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
			<-r.Context().Done()
			apitest.Cut()
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Handle(func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
				if req.Method != http.MethodPost {
					return false
				}
				var secret corev1.Secret
				req.Decode(t, &secret)
				c.Put(&secret)
				return spoil(w, r, req)
			})
			got := c.run(t, "create", given, "--request-timeout=300ms")
			got.wants(t, 1, "", "no token was left in the cluster that you have not seen")
			got.hides(t, secretPart)
			c.holds(t)
		})
	}
}

func TestRequestTimeoutBoundsARequest(t *testing.T) {
	c := newCluster(t)
	c.Handle(func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		<-r.Context().Done()
		apitest.Cut()
		return true
	})
	start := time.Now()
	for _, verb := range [][]string{{"create"}, {"list"}, {"delete", "abcdef"}, {"extend", "abcdef", "--ttl", "1h"}, {"version"}} {
		got := c.run(t, append(verb, "--request-timeout=100ms")...)
		if got.code != 1 || !strings.Contains(got.stderr, "Unable to connect to the server: ") || !strings.Contains(got.stderr, "Client.Timeout exceeded") && !strings.Contains(got.stderr, "context deadline exceeded") {
			t.Errorf("%s: exit code %d, stderr %q", verb[0], got.code, got.stderr)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCreateManyPrintsOneALine(t *testing.T) {
	c := newCluster(t)
	got := c.run(t, "create", "--count", "50")
	got.wants(t, 0, "K10", "")
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	slices.Sort(lines)
	if len(lines) != 50 || len(slices.Compact(lines)) != 50 || len(c.Names()) != 50 {
		t.Errorf("%d lines and %d tokens, want 50 different ones", len(lines), len(c.Names()))
	}
}

func TestCreateManyPrintsThoseThatItCouldMake(t *testing.T) {
	c := newCluster(t)
	var posts atomic.Int64
	c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method != http.MethodPost || posts.Add(1)%2 == 0 {
			return false
		}
		apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "", errors.New("exceeded quota")))
		return true
	})
	got := c.run(t, "create", "--count", "10")
	got.wants(t, 1, "K10", "exceeded quota")
	if lines := strings.Count(got.out, "\n"); lines != 5 || len(c.Names()) != 5 {
		t.Errorf("%d lines and %d tokens, want 5", lines, len(c.Names()))
	}
	if said := strings.Count(got.stderr, "exceeded quota"); said != 1 {
		t.Errorf("the same is said %d times:\n%s", said, got.stderr)
	}
}

func TestCreateManyRemovesAllThatItCannotDeliver(t *testing.T) {
	c := newCluster(t)
	got := call{cluster: c, args: []string{"create", "--count", "40"}, stdout: brokenWriter{syscall.ENOSPC}}.run(t)
	got.wants(t, 1, "", "no token was left in the cluster")
	if n := len(c.Requests()); n < 80 {
		t.Errorf("%d requests: were any created?", n)
	}
	c.holds(t)
}

func TestCreateWithoutEntropyMakesNothing(t *testing.T) {
	for _, dry := range []string{"none", "client"} {
		c := newCluster(t)
		got := call{cluster: c, args: []string{"create", "--dry-run", dry}, random: strings.NewReader("")}.run(t)
		got.wants(t, 1, "", "read random bytes: EOF")
		c.holds(t)
	}
}

func TestCreateRefusesATokenThatHasExpiredMeanwhile(t *testing.T) {
	c := newCluster(t)
	var late atomic.Bool
	c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		late.Store(req.Method == http.MethodPost)
		return false
	})
	got := call{cluster: c, args: []string{"create", "--ttl", "2s"}, now: func() time.Time {
		if late.Load() {
			return now.Add(time.Minute)
		}
		return now
	}}.run(t)
	got.wants(t, 1, "", "the token expired before it could be printed: choose a longer --ttl")
	c.holds(t)
}

func TestCreateSetsWhatItIsAskedFor(t *testing.T) {
	c := newCluster(t)
	c.run(t, "create", given, "--ttl", "1w12h", "--description", "rack \x1b 7", "--usages", "authentication,authentication",
		"--groups", "system:bootstrappers:b,system:bootstrappers:a", "--groups", "system:bootstrappers:b").wants(t, 0, "K10", "")
	got := map[string]string{}
	for key, value := range c.Secret("bootstrap-token-abcdef").Data {
		got[key] = string(value)
	}
	want := map[string]string{
		"token-id": "abcdef", "token-secret": secretPart, "expiration": "2025-06-09T00:00:00Z", "description": "rack \x1b 7",
		"usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:b,system:bootstrappers:a",
	}
	if len(got) != len(want) {
		t.Errorf("it has %d keys, want %d", len(got), len(want))
	}
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s is %q, want %q", key, mask(got[key]), mask(want[key]))
		}
	}
}

func TestCreateWarns(t *testing.T) {
	for name, test := range map[string]struct {
		version string
		args    []string
		want    string
	}{
		"never expires":     {"v1.31.1+k3s1", []string{"--ttl", "0"}, "Warning: a token that never expires"},
		"no authentication": {"v1.31.1+k3s1", []string{"--usages", "signing"}, "Warning: no node can join"},
		"no K3s":            {"v1.31.1", nil, "Warning: the server is Kubernetes v1.31.1, neither K3s nor RKE2"},
		"loopback":          {"v1.31.1+k3s1", []string{"--print-join-command"}, "Warning: 127.0.0.1 is this machine only"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.SetVersion(test.version)
			c.run(t, append([]string{"create"}, test.args...)...).wants(t, 0, "K10", test.want)
			if len(c.Names()) != 1 {
				t.Error("there is no token")
			}
		})
	}
}

func TestCreateWarnsOfASecretThatNobodySees(t *testing.T) {
	for _, format := range []string{"name", "jsonpath={.id}"} {
		got := newCluster(t).run(t, "create", "-o", format)
		if got.code != 0 || !strings.HasPrefix(got.stderr, "Warning: --output="+format+" leaves out the token's secret") {
			t.Errorf("%s: exit code %d, stderr %s", format, got.code, got.stderr)
		}
	}
	for _, args := range [][]string{{given, "-o", "name"}, {"-o", "jsonpath={.token}"}, {"-o", "json"}} {
		if got := newCluster(t).run(t, append([]string{"create"}, args...)...); got.code != 0 || got.stderr != "" {
			t.Errorf("%v: exit code %d, stderr %s", args[len(args)-1], got.code, got.stderr)
		}
	}
}

func TestCreateOnRKE2UsesItsGroup(t *testing.T) {
	c := newCluster(t)
	c.SetVersion("v1.31.1+rke2r1")
	c.run(t, "create", given).wants(t, 0, "K10", "")
	if groups := string(c.Secret("bootstrap-token-abcdef").Data["auth-extra-groups"]); groups != "system:bootstrappers:rke2:default-node-token" {
		t.Errorf("groups %q", groups)
	}
}

func TestCreateWithACAFileDoesNotAskForTheCA(t *testing.T) {
	c := newCluster(t)
	file := filepath.Join("..", "token", "testdata", "single.pem")
	c.run(t, "create", given, "--ca-file", file).wants(t, 0, "K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::"+given+"\n", "")
	for _, request := range c.Requests() {
		if strings.Contains(request.Path, "configmaps") {
			t.Error("the cluster is asked for its CA")
		}
	}
}

func TestCreateInShortFormat(t *testing.T) {
	c := newCluster(t)
	c.run(t, "create", given, "--token-format", "short", "--groups", defaultGroup, "--ttl", "0").wants(t, 0, given+"\n", "never expires")
	if requests := c.Requests(); len(requests) != 1 {
		t.Errorf("requests %v, want one: nothing else need be known", requests)
	}
}

func TestCreateFormats(t *testing.T) {
	secure := func(c *cluster) string { return "K10" + c.caHash + "::" + given }
	want := func(c *cluster) map[string]any {
		return map[string]any{
			"apiVersion": "k3s-token.io/v1alpha1", "kind": "BootstrapToken",
			"metadata": map[string]any{"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
			"id":       "abcdef", "token": secure(c), "caHash": c.caHash, "server": c.URL,
			"expires": "2025-06-02T12:00:00Z", "groups": []any{defaultGroup}, "usages": []any{"authentication", "signing"},
			"description": "rack 7", "status": "Active",
		}
	}
	for _, format := range []string{"json", "yaml", "kyaml", "JSON"} {
		c := newCluster(t)
		got := c.run(t, "create", given, "--description", "rack 7", "--dry-run=client", "-o", format)
		var object map[string]any
		if err := yaml.Unmarshal([]byte(got.out), &object); err != nil {
			t.Errorf("%s: it cannot be read back: %v", format, err)
		}
		gotJSON, _ := json.Marshal(object)
		wantJSON, _ := json.Marshal(want(c))
		if string(gotJSON) != string(wantJSON) {
			t.Errorf("%s: %s\nwant %s", format, mask(string(gotJSON)), mask(string(wantJSON)))
		}
	}
	for name, test := range map[string]struct {
		args []string
		want func(*cluster) string
	}{
		"text":             {[]string{"-o", "text"}, func(c *cluster) string { return secure(c) + "\n" }},
		"name":             {[]string{"-o", "name"}, func(*cluster) string { return "secret/bootstrap-token-abcdef\n" }},
		"jsonpath":         {[]string{"-o", "jsonpath={.id} {.token}"}, func(c *cluster) string { return "abcdef " + secure(c) }},
		"go-template":      {[]string{"-o", "go-template={{.id}} {{.caHash}}"}, func(c *cluster) string { return "abcdef " + c.caHash }},
		"template alone":   {[]string{"--template", "{{.id}}"}, func(*cluster) string { return "abcdef" }},
		"go-template-file": {[]string{"-o", "go-template-file=" + writeFile(t, "template", "{{.server}}")}, func(c *cluster) string { return c.URL }},
	} {
		c := newCluster(t)
		got := c.run(t, append([]string{"create", given, "--dry-run=client"}, test.args...)...)
		if got.code != 0 || got.out != test.want(c) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, got.code, mask(got.out), got.stderr)
		}
	}
}

func TestCreateManyIsAListInFormats(t *testing.T) {
	c := newCluster(t)
	got := c.run(t, "create", "--count", "2", "-o", "jsonpath={.kind}{range .items[*]} {.id}{end}")
	ids := strings.Fields(got.out)
	if len(ids) != 3 || ids[0] != "BootstrapTokenList" {
		t.Fatalf("stdout %q", got.out)
	}
	slices.Sort(ids[1:])
	c.holds(t, ids[1:]...)
}

func TestDryRunOfCreate(t *testing.T) {
	for _, dry := range []string{"client", "server"} {
		c := newCluster(t)
		file := filepath.Join(t.TempDir(), "token")
		for _, args := range [][]string{nil, {"--output-file", file}, {"--count", "3"}} {
			got := c.run(t, append([]string{"create", "--dry-run", dry}, args...)...)
			got.wants(t, 0, "K10", "not created ("+dry+" dry run)")
		}
		c.holds(t)
		if writes := c.Writes(); len(writes) > 0 {
			t.Errorf("%s: writes %v", dry, writes)
		}
		posts := 0
		for _, request := range c.Requests() {
			if request.Method == http.MethodPost {
				posts++
			}
		}
		if want := map[string]int{"client": 0, "server": 5}[dry]; posts != want {
			t.Errorf("%s: %d POSTs, want %d", dry, posts, want)
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file was made: %v", dry, err)
		}
	}
}

func TestOutputFileIsWholeAndPrivate(t *testing.T) {
	c := newCluster(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	c.run(t, "create", given, "--output-file", file).wants(t, 0, "", "1 token written to "+file+"\n")
	content, err := os.ReadFile(file)
	if err != nil || string(content) != "K10"+c.caHash+"::"+given+"\n" {
		t.Errorf("the file holds %d bytes (%v)", len(content), err)
	}
	wantPrivate(t, file)
	wantOnly(t, dir, "token")
}

func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("the folder holds %v, want %v", got, names)
	}
}

func TestOutputFileNeverOverwritesOneThatComesMeanwhile(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"file":          func(name string) error { return os.WriteFile(name, []byte("precious"), 0o644) },
		"dangling link": func(name string) error { return os.Symlink("nowhere", name) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			dir := t.TempDir()
			file := filepath.Join(dir, "token")
			c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				if req.Method == http.MethodPost {
					if err := make(file); err != nil {
						t.Error(err)
					}
				}
				return false
			})
			c.run(t, "create", given, "--output-file", file).wants(t, 1, "", "exists already: name a new file")
			c.holds(t)
			wantOnly(t, dir, "token")
			if content, err := os.ReadFile(file); err == nil && string(content) != "precious" {
				t.Error("the file was overwritten")
			}
		})
	}
}

func TestOutputFileThatCannotBeWrittenLeavesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows removes no folder with an open file in it")
	}
	c := newCluster(t)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// The folder goes away under the file.
	c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodPost {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	got := c.run(t, "create", given, "--output-file", filepath.Join(dir, "token"))
	got.wants(t, 1, "", "error: --output-file: ")
	got.hides(t, secretPart)
	c.holds(t)
}

func TestJoinCommands(t *testing.T) {
	for name, test := range map[string]struct {
		version string
		args    []string
		want    func(*cluster) string
	}{
		"install": {"v1.31.1+k3s1", []string{"--print-join-command", "--url", "https://k3s.example.com:6443/"}, func(c *cluster) string {
			return "curl -sfL https://get.k3s.io | K3S_URL='https://k3s.example.com:6443' K3S_TOKEN='K10" + c.caHash + "::" + given + "' INSTALL_K3S_VERSION='v1.31.1+k3s1' sh -\n"
		}},
		"agent": {"v1.31.1+k3s1", []string{"--print-join-command=agent", "--url", "https://k3s.example.com:6443"}, func(c *cluster) string {
			return "k3s agent --server 'https://k3s.example.com:6443' --token 'K10" + c.caHash + "::" + given + "'\n"
		}},
		"agent of RKE2": {"v1.31.1+rke2r1", []string{"--print-join-command=agent", "--url", "https://k3s.example.com:9345"}, func(c *cluster) string {
			return "rke2 agent --server 'https://k3s.example.com:9345' --token 'K10" + c.caHash + "::" + given + "'\n"
		}},
		"config": {"v1.31.1+k3s1", []string{"--print-join-command=config", "--url", "https://k3s.example.com:6443"}, func(c *cluster) string {
			return "server: https://k3s.example.com:6443\ntoken: K10" + c.caHash + "::" + given + "\n"
		}},
		"short": {"v1.31.1+k3s1", []string{"--print-join-command=agent", "--url", "https://k3s.example.com:6443", "--token-format", "short"}, func(*cluster) string {
			return "k3s agent --server 'https://k3s.example.com:6443' --token '" + given + "'\n"
		}},
	} {
		c := newCluster(t)
		c.SetVersion(test.version)
		got := c.run(t, append([]string{"create", given}, test.args...)...)
		if got.code != 0 || got.out != test.want(c) || got.stderr != "" {
			t.Errorf("%s: exit code %d, stdout\n%s\nwant\n%s\nstderr %q", name, got.code, mask(got.out), mask(test.want(c)), got.stderr)
		}
	}
}
