package cmd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

var (
	singlePEM = filepath.Join("..", "token", "testdata", "single.pem")
	bundlePEM = filepath.Join("..", "token", "testdata", "bundle.pem")
)

func TestGenerate(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"bootstrap token":           {nil, `[a-z0-9]{6}\.[a-z0-9]{16}\n`},
		"named so":                  {[]string{"--type", "bootstrap"}, `[a-z0-9]{6}\.[a-z0-9]{16}\n`},
		"server token":              {[]string{"--type", "server"}, `[0-9a-f]{32}\n`},
		"agent token":               {[]string{"--type", "agent"}, `[0-9a-f]{32}\n`},
		"several":                   {[]string{"--count", "3"}, `([a-z0-9]{6}\.[a-z0-9]{16}\n){3}`},
		"secure bootstrap token":    {[]string{"--ca-file", singlePEM}, `K10` + someHash + `::[a-z0-9]{6}\.[a-z0-9]{16}\n`},
		"secure server token":       {[]string{"--ca-file", singlePEM, "--type", "server"}, `K10` + someHash + `::server:[0-9a-f]{32}\n`},
		"secure agent token":        {[]string{"--ca-file", singlePEM, "--type", "agent"}, `K10` + someHash + `::node:[0-9a-f]{32}\n`},
		"secure, of a bundle":       {[]string{"--ca-file", bundlePEM}, `K10b399cdc325a2a7ee1446a6f998f01069dfddc09c99a74dcacdcc130d2fd8c6e0::.{23}\n`},
		"one field":                 {[]string{"-o", "jsonpath={.kind} {.type}"}, `GeneratedToken bootstrap`},
		"one field of several":      {[]string{"-o", "jsonpath={.kind} {.items[*].type}", "--count", "2", "--type", "agent"}, `GeneratedTokenList agent agent`},
		"template without a format": {[]string{"--template", "{{.user}}", "--type", "server"}, `server`},
	} {
		t.Run(name, func(t *testing.T) {
			got := offline(t, append([]string{"generate"}, test.args...)...)
			if got.code != 0 || !regexp.MustCompile(`\A`+test.want+`\z`).MatchString(got.out) || got.stderr != "" {
				t.Errorf("exit code %d, stdout of %d bytes, stderr %q", got.code, len(got.out), got.stderr)
			}
		})
	}
}

func TestGenerateDrawsDifferentTokens(t *testing.T) {
	lines := strings.Split(offline(t, "generate", "--count", "1000").out, "\n")
	slices.Sort(lines)
	if n := len(slices.Compact(lines)); n != 1001 {
		t.Errorf("%d different lines, want 1000 and an empty one", n)
	}
}

func TestGenerateMakesNoTokenWhereNobodyGetsIt(t *testing.T) {
	got := call{lost: true, args: []string{"generate"}}.run(t)
	got.wants(t, 1, "", "error: the token could not be written out: standard output is closed")
}

func TestGenerateRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"it takes bootstrap, server or agent": {"--type", "admin"},
		"from 1 to 10000":                     {"--count", "0"},
		"--ca-file: ":                         {"--ca-file", "missing"},
		"unknown output format":               {"-o", "name"},
		"takes no arguments":                  {"hunter2"},
		"nothing is not found":                {"-o", "jsonpath={.nothing}", "--allow-missing-template-keys=false"},
	} {
		got := offline(t, append([]string{"generate"}, args...)...)
		got.wants(t, 1, "", want)
		got.hides(t, "hunter2")
	}
	call{args: []string{"generate"}, random: strings.NewReader("")}.run(t).wants(t, 1, "", "error: read random bytes: EOF")
	call{args: []string{"generate"}, stdout: brokenWriter{syscall.ENOSPC}}.run(t).wants(t, 1, "", "no space left")
}

func TestInspect(t *testing.T) {
	const caNone = "CA hash:     none: a node that joins with it trusts whatever server answers\n"
	head := func(format, kind string) string {
		return fmt.Sprintf("Well-formed: yes\nFormat:      %s\nType:        %s\n", format, kind)
	}
	for name, test := range map[string]struct{ token, want string }{
		"secure bootstrap token": {"K10" + someHash + "::" + given, head("secure", "bootstrap token") + "ID:          abcdef\nCA hash:     " + someHash + "\n"},
		"short bootstrap token":  {given, head("short", "bootstrap token") + "ID:          abcdef\n" + caNone},
		"server token":           {"K10" + someHash + "::server:" + secretPart, head("secure", "server token") + "User:        server\nCA hash:     " + someHash + "\n"},
		"agent token":            {"K10" + someHash + "::node:" + secretPart, head("secure", "agent token") + "User:        node\nCA hash:     " + someHash + "\n"},
		"another user":           {"K10" + someHash + "::\x1bname:" + secretPart, head("secure", "password, of a server token or an agent token") + "User:        \\u001bname\nCA hash:     " + someHash + "\n"},
		"password":               {secretPart, head("short", "password, of a server token or an agent token") + caNone},
		"nearly a token": {"ABCDEF." + secretPart, head("short", "password, of a server token or an agent token") + caNone +
			"Hint:        K3s takes it as a password; as a bootstrap token it is malformed: token id: character 1 is not one of a-z and 0-9\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for way, call := range map[string]call{
				"argument": {args: []string{"inspect", test.token}},
				"stdin":    {args: []string{"inspect", "-"}, stdin: test.token + "\n"},
				"file":     {args: []string{"inspect", "--token-file", writeFile(t, "token", test.token+"\r\n")}},
			} {
				got := call.run(t)
				if got.code != 0 || got.out != test.want || got.stderr != "" {
					t.Errorf("%s: exit code %d, stdout\n%s\nwant\n%s\nstderr %q", way, got.code, mask(got.out), test.want, mask(got.stderr))
				}
				got.hides(t, secretPart)
			}
		})
	}
}

func TestInspectSaysWhereATokenIsMalformed(t *testing.T) {
	got := offline(t, "inspect", "K10"+someHash[1:]+"::"+given)
	got.wants(t, 1, "Well-formed: no, CA hash: it has 63 characters instead of 64", "error: malformed token: CA hash: it has 63 characters")
	got.hides(t, secretPart)
	got = offline(t, "inspect", "K10"+someHash+"::"+secretPart, "-o", "yaml")
	got.wants(t, 1, "wellFormed: false", "error: malformed token: credentials: ")
	got.hides(t, secretPart)
	// The template fails for want of a field, and its error stays readable.
	got = offline(t, "inspect", "K10", "-o", "jsonpath={.nothing}", "--allow-missing-template-keys=false")
	got.wants(t, 1, "", "nothing is not found")
	got = offline(t, "inspect", "e", "-o", "jsonpath={.nothing}", "--allow-missing-template-keys=false")
	got.wants(t, 1, "", "nothing is not found")
}

func TestInspectComparesTheCAHash(t *testing.T) {
	secure := "K10" + someHash + "::" + given
	offline(t, "inspect", secure, "--ca-file", singlePEM).wants(t, 0, "CA matches:  yes\n", "")
	offline(t, "inspect", secure, "--ca-file", bundlePEM).wants(t, 1, "CA matches:  no\n", "the token is another cluster's")
	offline(t, "inspect", given, "--ca-file", singlePEM).wants(t, 1, "CA hash:     none", "no CA hash to compare with")
	got := offline(t, "inspect", secure, "--ca-file", singlePEM, "-o", "json")
	var info map[string]any
	if err := json.Unmarshal([]byte(got.out), &info); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "k3s-token.io/v1alpha1", "kind": "TokenInfo", "wellFormed": true, "format": "secure",
		"type": "bootstrap", "id": "abcdef", "caHash": someHash, "caMatches": true,
	}
	if fmt.Sprint(info) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", info, want)
	}
}

func TestInspectRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"give a TOKEN":              {},
		"not both":                  {given, "--token-file", "file"},
		notFound:                    {"--token-file", "missing"},
		"missing: " + notFound:      {"--ca-file", "missing", given},
		"one TOKEN at most":         {given, given},
		"unknown output format":     {given, "-o", "wide"},
		"it is empty":               {""},
		"malformed token":           {strings.Repeat("x", 64<<10+1)},
		"is empty: it should hold":  {"--token-file", writeFile(t, "empty", "\n")},
		"several lines":             {"--token-file", writeFile(t, "several", given+"\n"+given)},
		"more than 16777216 bytes ": {"--token-file", writeFile(t, "large", strings.Repeat("x", 16<<20+1))},
	} {
		got := offline(t, append([]string{"inspect"}, args...)...)
		if got.code != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("exit code %d, stderr %q, want %q", got.code, mask(got.stderr), want)
		}
		got.hides(t, secretPart)
	}
}

func TestVersion(t *testing.T) {
	offline(t, "version", "--client").wants(t, 0, "Client Version: v0.0.0-test\n", "")
	c := newCluster(t)
	c.SetVersion("v1.31.1+rke2r1")
	got := c.run(t, "version")
	if got.code != 0 || got.out != "Client Version: v0.0.0-test\nServer Version: v1.31.1+rke2r1 (rke2)\n" || got.stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.code, got.out, got.stderr)
	}
	var info map[string]any
	if err := yaml.Unmarshal([]byte(c.run(t, "version", "-o", "yaml").out), &info); err != nil || fmt.Sprint(info["serverVersion"]) != "map[distribution:rke2 gitVersion:v1.31.1+rke2r1]" {
		t.Errorf("%v (%v)", info, err)
	}
	c.SetVersion("v1\x1b[31m")
	c.run(t, "version").wants(t, 0, `Server Version: v1\u001b[31m (other)`, "")
	c.Close()
	c.run(t, "version").wants(t, 1, "Client Version: v0.0.0-test\n", "was refused")
}

func TestCompletionPrintsWhatKubectlCalls(t *testing.T) {
	_, shim := cmd.CompletionShim(runtime.GOOS)
	if got := offline(t, "completion"); got.code != 0 || got.out != shim || got.stderr != "" {
		t.Errorf("exit code %d, stdout\n%sstderr %q", got.code, got.out, got.stderr)
	}
	for goos, want := range map[string][3]string{
		"linux":   {"kubectl_complete-k3s_token", "#!/bin/sh\n", "\nexec kubectl-k3s_token __complete \"$@\"\n"},
		"windows": {"kubectl_complete-k3s_token.cmd", "@rem ", "\n@kubectl-k3s_token.exe __complete %*\n"},
	} {
		name, program := cmd.CompletionShim(goos)
		if name != want[0] || !strings.HasPrefix(program, want[1]) || !strings.HasSuffix(program, want[2]) {
			t.Errorf("on %s it is %s:\n%s", goos, name, program)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := offline(t, "completion", shell)
		if got.code != 0 || len(got.out) < 1000 || !strings.Contains(got.out, "kubectl-k3s_token") || got.stderr != "" {
			t.Errorf("%s: exit code %d, %d bytes, stderr %q", shell, got.code, len(got.out), got.stderr)
		}
	}
	offline(t, "completion", "tcsh").wants(t, 1, "", "unknown shell")
	call{args: []string{"completion"}, stdout: brokenWriter{syscall.ENOSPC}}.run(t).wants(t, 1, "", "no space left")
}

// complete returns what is offered, without cobra's last line.
func complete(t *testing.T, c *cluster, words ...string) []string {
	t.Helper()
	got := call{args: slices.Concat([]string{"__complete", words[0], "--kubeconfig", c.kubeconfig}, words[1:])}.run(t)
	if got.code != 0 {
		t.Errorf("%q: exit code %d", words, got.code)
	}
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	return lines[:len(lines)-1]
}

func TestCompletionOffers(t *testing.T) {
	c := zoo(t)
	c.put("acbdef", set("description", "a\nb\tc\x1b"))
	for name, test := range map[string]struct {
		words []string
		want  string
	}{
		"tokens for delete":              {[]string{"delete", ""}, "acbdef\t1h, a\\nb\\tc\\u001b|active\t1h, rack 7|badend\t<invalid>, <none>|expire\t<expired>, <none>|foreve\t<forever>, <none>|nosecr\t<invalid>, <none>"},
		"tokens for extend":              {[]string{"extend", "ac"}, "acbdef\t1h, a\\nb\\tc\\u001b|active\t1h, rack 7"},
		"no token twice":                 {[]string{"delete", "active", "ac"}, "acbdef\t1h, a\\nb\\tc\\u001b"},
		"no files for create":            {[]string{"create", ""}, ""},
		"values of sort-by":              {[]string{"list", "--sort-by", ""}, "expires|id|description|age"},
		"values of dry-run":              {[]string{"create", "--dry-run", ""}, "none|server|client"},
		"contexts":                       {[]string{"list", "--context", ""}, "test"},
		"clusters":                       {[]string{"list", "--cluster", ""}, "test"},
		"users":                          {[]string{"list", "--user", ""}, "test"},
		"shells":                         {[]string{"completion", "z"}, "zsh"},
		"formats of list":                {[]string{"list", "-o", ""}, "json|yaml|kyaml|text|wide|name|jsonpath|jsonpath-as-json|jsonpath-file|go-template|go-template-file"},
		"types of generate":              {[]string{"generate", "--type", ""}, "bootstrap|server|agent"},
		"nothing for where a TTL starts": {[]string{"extend", "x", "--expires-at", ""}, ""},
	} {
		got := strings.Join(complete(t, c, test.words...), "|")
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	c.Close()
	if got := complete(t, c, "delete", ""); len(got) > 0 {
		t.Errorf("without a cluster it offers %q", got)
	}
	if err := os.WriteFile(c.kubeconfig, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := complete(t, c, "delete", ""); len(got) > 0 {
		t.Errorf("without a kubeconfig it offers %q", got)
	}
}

func TestTheBinaryCompletesUnderTheNameOfItsShim(t *testing.T) {
	for _, name := range []string{"kubectl_complete-k3s_token", filepath.Join("bin", "kubectl_complete-k3s_token"), "kubectl_complete-k3s_token.exe"} {
		got := callAs(t, name, "gen")
		if !strings.HasPrefix(got.out, "generate\t") {
			t.Errorf("%s: stdout %q", name, got.out)
		}
	}
}

func TestUnknownCommandsAreNotRepeatedWhereTheyMayBeTokens(t *testing.T) {
	offline(t, "creat").wants(t, 1, "", "error: unknown command \"creat\" for \"kubectl k3s-token\"\n\nDid you mean this?\n\tcreate\n")
	for _, secret := range []string{given, "K10" + someHash + "::" + given, "0123456789abcdef0123456789abcdef"} {
		got := offline(t, secret)
		got.wants(t, 1, "", "error: unknown command for")
		got.hides(t, secret)
	}
	offline(t, "hunter2hunter2").wants(t, 1, "", `error: unknown command for "kubectl k3s-token"`)
	for _, verb := range []string{"list", "version", "generate"} {
		got := offline(t, verb, given)
		got.wants(t, 1, "", "takes no arguments")
		got.hides(t, secretPart)
	}
}

func TestASecretInTheWrongPlaceIsNotRepeated(t *testing.T) {
	secure := "K10" + someHash + "::server:" + secretPart
	for _, args := range [][]string{
		{"inspect", "-" + secure}, {"verify", "-k" + secretPart}, {"generate", "--count", secure}, {"generate", "--count=" + given},
		{"create", "--ttl", given}, {"create", "--expires-at=" + given}, {"create", "--token-format", secure}, {"create", "--usages", given},
		{"list", "--sort-by", secure}, {"list", "-o", given}, {"list", "--" + secure}, {"generate", "--type", given}, {"list", "--proxy-url", "http://user:p%zz" + secretPart + "@proxy:3128"},
	} {
		got := offline(t, args...)
		got.wants(t, 1, "", "error: ")
		got.hides(t, secretPart)
	}
	offline(t, "list", "-K").wants(t, 1, "", `error: unknown shorthand flag: "K"`)
}

func TestATokenIsReadAsEditorsWriteIt(t *testing.T) {
	for name, content := range map[string]string{
		"as it is":          given,
		"a byte order mark": "\ufeff" + given + "\r\n",
		"spaces":            " " + given + " \n\n",
	} {
		call{args: []string{"inspect", "-"}, stdin: content}.run(t).wants(t, 0, "Type:        bootstrap token\n", "")
		if got := offline(t, "inspect", "--token-file", writeFile(t, "token", content)); got.code != 0 {
			t.Errorf("%s: exit code %d, stderr %s", name, got.code, got.stderr)
		}
	}
	got := call{args: []string{"inspect", "-"}, stdin: "\xff\xfeK\x001\x000\x00"}.run(t)
	got.wants(t, 1, "", "UTF-16")
	offline(t, "inspect", "--token-file", "-").wants(t, 1, "", `error: "-" is no file`)
}

func TestSecretsComeFromStdinOnlyWithinReason(t *testing.T) {
	got := call{args: []string{"inspect", "-"}, stdin: strings.Repeat("x", 16<<20+1)}.run(t)
	got.wants(t, 1, "", "read the token from standard input: more than 16777216 bytes of input")
}
