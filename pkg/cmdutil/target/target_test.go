package target_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	secret = "0123456789abcdef"
	secure = "K10000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f::abcdef." + secret
)

func streamsWith(stdin string) cmdutil.Streams {
	return cmdutil.Streams{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: io.Discard, ErrOut: io.Discard}}
}

func report(err error) string {
	var out strings.Builder
	if err != nil {
		cmdutil.ReportError(&out, err)
	}
	return out.String()
}

func TestTheTokenComesFromOneOfFourPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secure), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		flags            target.Flags
		args             []string
		stdin, env, says string
	}{
		"argument":       {args: []string{secure}, env: "hunter2"},
		"standard input": {args: []string{"-"}, stdin: secure},
		"flag":           {flags: target.Flags{Token: secure}, env: "hunter2"},
		"file":           {flags: target.Flags{TokenFile: file}, env: "hunter2"},
		"variable":       {env: secure + "\n"},
		"nothing":        {says: "error: no token given\nhint: give a TOKEN"},
		"two":            {flags: target.Flags{TokenFile: file}, args: []string{"-"}, says: "is given twice"},
		"malformed":      {args: []string{"K10" + secret + "::hunter2"}, says: "error: malformed token: "},
	} {
		t.Setenv("K3S_TOKEN", test.env)
		got, err := test.flags.ReadToken(t.Context(), streamsWith(test.stdin), test.args)
		if !strings.Contains(report(err), test.says) || (err == nil) != (got.Reveal() == secure) || (err == nil) != (test.says == "") || strings.Contains(report(err), "hunter2") {
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
		config := genericclioptions.NewConfigFlags(true)
		*config.APIServer, *config.CAFile = test.api, "../../token/testdata/single.pem"
		servers, err := (&target.Flags{URLs: test.named}).Servers(cmdutil.NewClients(config, streamsWith("")))
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
