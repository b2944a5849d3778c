package rotate_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/rotate"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	hash    = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260" // of single.pem
	current = "0d5e2f7a91c3b4e860d5e2f7a91c3b4e"
	next    = "Xk29fQ7mWz41Lp83vTb60RcY"
)

// setup is a rotation through one server, which accepts all but what a test
// changes. It is the session with that server, too.
type setup struct {
	*rotate.Options
	out, errOut bytes.Buffer
	outcome     supervisor.Outcome
	onRotate    func()
	told        bool
}

func (s *setup) CAHash() string { return hash }
func (s *setup) Remote() string { return "10.0.0.1:6443" }
func (s *setup) Proxied() bool  { return false }
func (s *setup) Close()         {}

func (s *setup) Accepts(context.Context, token.Token, supervisor.Role) error { return nil }

func (s *setup) Rotate(context.Context, token.Token, token.Secret) (supervisor.Outcome, error) {
	s.told = true
	s.onRotate()
	if s.outcome == supervisor.Rotated {
		return s.outcome, nil
	}
	return s.outcome, errors.New("the connection is gone")
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	url, err := supervisor.ParseURL("https://10.0.0.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{outcome: supervisor.Rotated, onRotate: func() {}}
	s.Options = rotate.NewOptions(cmdutil.Streams{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &s.out, ErrOut: &s.errOut}})
	s.Yes, s.DryRun = true, cmdutil.DryRunNone
	s.Rotation = rotation.Rotation{
		Servers: []supervisor.URL{url},
		Current: token.Token{CAHash: hash, User: token.UserServer, Secret: current},
		New:     token.Token{User: token.UserServer, Secret: next},
		Open:    func(context.Context, supervisor.URL, token.Token) (rotation.Session, error) { return s, nil },
	}
	return s
}

// run runs the verb and returns what it would report.
func (s *setup) run(t *testing.T) (string, error) {
	t.Helper()
	printer, err := s.Print.ToPrinter()
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Run(t.Context(), printer); err != nil {
		cmdutil.ReportError(&s.errOut, err)
	}
	stderr := s.errOut.String()
	if strings.Contains(stderr, next) || strings.Contains(stderr, current) {
		t.Error("stderr holds a token")
	}
	return stderr, err
}

func line(password string) string { return "K10" + hash + "::server:" + password + "\n" }

func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("lacks %q:\n%s", part, text)
		}
	}
}

// TestTheNewTokenReachesTheUserInEachOutcome has the token printed, or in the file
// before the server is told.
func TestTheNewTokenReachesTheUserInEachOutcome(t *testing.T) {
	t.Parallel()
	for outcome, says := range map[supervisor.Outcome][]string{
		supervisor.Rotated:    {"server token rotated", "2. Restart https://10.0.0.1:6443", "Keep the old token"},
		supervisor.Unknown:    {"error: the connection is gone", "error: it is not known whether", "repeat it through the same server"},
		supervisor.NotRotated: {"error: the connection is gone", "error: the server token was not rotated"},
	} {
		want := line(next)
		if outcome == supervisor.NotRotated {
			want = ""
		}
		for _, name := range []string{"", filepath.Join(t.TempDir(), "new")} {
			s := newSetup(t)
			s.outcome, s.OutputFile = outcome, name
			s.onRotate = func() {
				if content, err := os.ReadFile(name); name != "" && string(content) != line(next) {
					t.Errorf("the file lacks the token when the server is told: %v", err)
				}
			}
			stderr, err := s.run(t)
			has(t, stderr, says...)
			content, _ := os.ReadFile(name)
			if got := s.out.String() + string(content); got != want || (err == nil) != (outcome == supervisor.Rotated) {
				t.Errorf("%s: the user has %q, want %q; the error is %v", outcome, got, want, err)
			}
		}
	}
}

func TestWhatCanFailFailsBeforeTheServerIsTold(t *testing.T) {
	t.Parallel()
	existing := filepath.Join(t.TempDir(), "existing")
	if err := os.WriteFile(existing, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*setup)
		says   string
	}{
		"the file exists":                 {func(s *setup) { s.OutputFile = existing }, "existing exists"},
		"the output leaves out the token": {func(s *setup) { *s.Print.OutputFormat = "jsonpath={.outcome}" }, "leaves out the new token"},
		"the template does not fit": {func(s *setup) {
			*s.Print.OutputFormat, *s.Print.TemplatePrinterFlags.AllowMissingKeys = "go-template={{.nope.nope}}", false
		}, "nope"},
		"the preflight fails": {func(s *setup) {
			s.Rotation.Open = func(context.Context, supervisor.URL, token.Token) (rotation.Session, error) {
				return nil, errors.New("nothing listens")
			}
		}, "nothing listens"},
		"nobody can be asked": {func(s *setup) { s.Yes = false }, "add --yes"},
	} {
		s := newSetup(t)
		test.change(s)
		stderr, err := s.run(t)
		if has(t, stderr, test.says); err == nil || s.told || s.out.String() != "" {
			t.Errorf("%s: got error %v; the server was told, or something printed", name, err)
		}
	}
	if content, _ := os.ReadFile(existing); string(content) != "precious" {
		t.Error("the file was overwritten")
	}
}
