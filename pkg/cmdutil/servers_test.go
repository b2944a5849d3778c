package cmdutil_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

func TestTheTokenComesFromOneOfFourPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secure), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		flags            cmdutil.ServerFlags
		args             []string
		stdin, env, says string
	}{
		"argument":       {args: []string{secure}, env: "hunter2"},
		"standard input": {args: []string{"-"}, stdin: secure},
		"flag":           {flags: cmdutil.ServerFlags{Token: secure}, env: "hunter2"},
		"file":           {flags: cmdutil.ServerFlags{TokenFile: file}, env: "hunter2"},
		"variable":       {env: secure + "\n"},
		"nothing":        {says: "error: no token given\nhint: give a TOKEN"},
		"two":            {flags: cmdutil.ServerFlags{TokenFile: file}, args: []string{"-"}, says: "is given twice"},
		"malformed":      {args: []string{"K10" + secret + "::hunter2"}, says: "error: malformed token: "},
	} {
		t.Setenv("K3S_TOKEN", test.env)
		streams, _, _ := newStreams(test.stdin)
		got, err := test.flags.ReadToken(t.Context(), streams, test.args)
		has(t, report(err), test.says)
		if (err == nil) != (got.Reveal() == secure) || (err == nil) != (test.says == "") || strings.Contains(report(err), "hunter2") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

// The CA of the context vouches for its servers if a token has no CA hash.
func TestTheServersAreNamedOrTheContexts(t *testing.T) {
	const one, two, nobody = "https://one.example.com:6443", "https://two.example.com:6443", "https://127.0.0.1:1"
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for _, test := range []struct {
		named          []string
		env, api, want string
	}{
		{[]string{one, two, one + "/"}, "hunter2", "", "[" + one + " " + two + "]"},
		{nil, one, nobody, "[" + one + "]"},
		{nil, "", nobody, "[" + nobody + "]"},
		{nil, "k3s", nobody, "error: K3S_URL: the server URL has no scheme\nhint: put https:// in front of it\n"},
		{nil, "", "", "error: there is no kubeconfig context\nhint: name the servers with --server\n"},
	} {
		t.Setenv("K3S_URL", test.env)
		streams, _, _ := newStreams("")
		config := genericclioptions.NewConfigFlags(true)
		*config.APIServer, *config.CAFile = test.api, "../token/testdata/single.pem"
		servers, err := (&cmdutil.ServerFlags{URLs: test.named}).Servers(cmdutil.NewClients(config, streams))
		got := report(err)
		if err == nil {
			without, with := servers.Options(t.Context(), token.Token{}), servers.Options(t.Context(), token.Token{CAHash: "hash"})
			if vouched := strings.HasPrefix(without.ContextCAHash, "d2ec0c9a"); vouched != (test.api == nobody) || with.ContextCAHash != "" || with.CAHash != "hash" {
				t.Errorf("got %+v", without)
			}
			urls, err := servers.URLs(t.Context())
			if got = report(err); err == nil {
				got = fmt.Sprint(urls)
			}
		}
		if got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
