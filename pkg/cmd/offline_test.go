package cmd_test

import (
	"regexp"
	"strings"
	"testing"
)

const (
	hash   = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"
	caFile = "../token/testdata/single.pem"
)

// TestCommandLinesAreRefusedOfflineWithoutASecret has tokens and passwords in
// places that are for something else, too.
func TestCommandLinesAreRefusedOfflineWithoutASecret(t *testing.T) {
	t.Parallel()
	a := newAPI(t, login)
	for line, says := range map[string]string{
		"creat":                              "error: unknown command \"creat\" for \"kubectl k3s-token\"\nhint: did you mean create?\n",
		password:                             "error: unknown command for \"kubectl k3s-token\"\n",
		"list -n default":                    "error: --namespace default: bootstrap tokens live in kube-system alone\n",
		"list -K10" + password:               `error: unknown flag: "K"`,
		"list --" + given:                    "error: unknown flag: \"<token>\"\nhint: see kubectl k3s-token list --help\n",
		"generate -o name":                   "has no name",
		"inspect":                            "hint: give a TOKEN",
		"create K10::" + given:               "error: malformed TOKEN: it is in secure format\n",
		"create " + given + "x":              "error: malformed TOKEN: ",
		"create --print-join-command --url=": `error: invalid argument "" for "--url" flag: must not be empty`,
		"create --print-join-command agent":  "hint: write --print-join-command=FORMAT and --wait=NODE with an equals sign",
		"create --print-join-command --node-name w --count 2": "--count goes with neither TOKEN nor the name of a node",
		"create --count 2 --print-join-command=config":        "--count does not go with --print-join-command=config",
		"create --wait --wait-timeout 0s":                     "--wait-timeout must be longer than zero",
		"create --wait=false --delete-after-join":             "error: --delete-after-join needs --wait\n",
		"create --expires-at " + given:                        `invalid argument "<token>" for "--expires-at" flag: `,
		"create --expires-at 2020-01-01T00:00:00Z":            "is in the past",
		"extend --ttl 1h":                                     "error: name the tokens, or select them with one flag\n",
		"extend abcdef":                                       "at least one of the flags in the group [ttl expires-at] is required",
		"delete":                                              "error: name the tokens, or select them with one flag\n",
		"delete --all abcdef":                                 "error: name the tokens, or select them with one flag\n",
		"delete abcdef " + password:                           "error: TOKEN 2: not a bootstrap token\nhint: use a token id",
		"verify - -s " + given:                                "error: --server: the server URL has no scheme\nhint: put https:// in front",
		"join-command - --node-name Worker":                   "malformed node name \"Worker\"",
		"join-command - --format env --node-label a=b":        "an environment file has no place for labels",
		"rotate -s https://127.0.0.1:1 -t K10" + hash + "::server:" + password: "nothing listens on 127.0.0.1:1",
		"rotate --new-token - -t K10" + hash + "::server:" + password:          "form of a bootstrap token",
		"rotate -t -":                  "error: the current token is of type bootstrap",
		"rotate --token-file " + given: "error: ",
	} {
		_, stderr, err := a.run(t.Context(), nil, line)
		if !strings.Contains(stderr, says) || err == nil || strings.Contains(stderr, secret) || strings.Contains(stderr, "hunter2") {
			t.Errorf("%s: got %v\n%swant %q", line, err, stderr, says)
		}
		for said := range strings.Lines(stderr) {
			if text, ok := strings.CutPrefix(said, "error: "); ok && len(text) > 151 {
				t.Errorf("%s: %d characters: %s", line, len(text), said)
			}
		}
	}
	if len(a.requests) > 0 {
		t.Errorf("the cluster is asked: %v", a.requests)
	}
}

func TestTokensOffline(t *testing.T) {
	t.Parallel()
	const secure = "K10" + hash + "::" + given
	for line, want := range map[string]string{
		"generate --count 3":           `([a-z0-9]{6}\.[a-z0-9]{16}\n){3}`,
		"generate --ca-file " + caFile: `K10` + hash + `::[a-z0-9]{6}\.[a-z0-9]{16}\n`,
		"inspect " + secure:            `Well-formed: yes\nFormat:      secure\nType:        bootstrap token\nID:          abcdef\nCA hash:     ` + hash + `\n`,
		"inspect -":                    `Well-formed: yes\nFormat:      short\nType:        bootstrap token\nID:          abcdef\nCA hash:     none: a node .*\n`,
		"inspect K10" + hash + "::" + given + ":" + secret: `Well-formed: yes\nFormat:      secure\nType:        password of .*\nCA hash:     ` + hash + `\n`,
		"inspect " + given[1:]:                             `(?s).*Hint:        taken as a password, since as a bootstrap token it is malformed: .*`,
		"inspect K10" + strings.Repeat("0", 64) + "::server:" + password + " --ca-file " + caFile: `(?s).*CA matches:  no\n`,
		"--version":   "Client Version: v0.0.0-test\n",
		"completion":  "(?s)#!/bin/sh\n.*exec kubectl-k3s_token __complete .*|@rem .*",
		"list --help": "(?s).*kubectl k3s-token list -l rack=7.*Usage:\n  kubectl k3s-token list .*",
		"":            "(?s).*Bootstrap Tokens in the Cluster:\n  create .*",
	} {
		stdout, stderr, err := run(t.Context(), nil, strings.Fields(line)...)
		bad := strings.HasSuffix(want, "no\\n")
		if !regexp.MustCompile(`\A(`+want+`)\z`).MatchString(stdout) || (err != nil) != bad || (stderr != "") != bad {
			t.Errorf("%s: got %v, %q\n%s", line, err, stderr, stdout)
		}
		if strings.HasPrefix(line, "inspect") && strings.Contains(stdout+stderr, secret) || strings.Contains(stdout+stderr, password) {
			t.Errorf("%s: shows the secret", line)
		}
	}
}
