package rotate_test

import (
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

// session is a connection to a server that accepts the current token.
type session struct {
	rotation.Session
	outcome  supervisor.Outcome
	onRotate func()
}

func (s *session) CAHash() string { return hash }

func (s *session) Accepts(context.Context, supervisor.Role) (supervisor.Verdict, error) {
	return supervisor.Accepted, nil
}

func (s *session) Rotate(context.Context, token.Secret) (supervisor.Outcome, error) {
	s.onRotate()
	if s.outcome == supervisor.Rotated {
		return s.outcome, nil
	}
	return s.outcome, errors.New("the connection is gone")
}

// run rotates the token through the session, and returns what is printed and reported.
func run(t *testing.T, s *session, outputFile string) (stdout, stderr string) {
	t.Helper()
	url, err := supervisor.ParseURL("https://10.0.0.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	o := rotate.NewOptions(cmdutil.Streams{IOStreams: streams})
	o.OutputFile, o.Yes, o.DryRun = outputFile, true, cmdutil.DryRunNone
	o.Rotation = rotation.Rotation{
		Servers: []supervisor.URL{url},
		Current: token.Token{CAHash: hash, User: token.UserServer, Secret: current},
		New:     token.Token{User: token.UserServer, Secret: next},
		Warnf:   o.Warnf,
		Open:    func(context.Context, supervisor.URL, token.Token) (rotation.Session, error) { return s, nil },
	}
	printer, err := o.Print.ToPrinter()
	if err == nil {
		err = o.Run(t.Context(), printer)
	}
	if err != nil {
		cmdutil.ReportError(errOut, err)
	}
	return out.String(), errOut.String()
}

// TestTheNewTokenReachesTheUserInEachOutcome has the token printed, or in the file
// before the server is told.
func TestTheNewTokenReachesTheUserInEachOutcome(t *testing.T) {
	t.Parallel()
	const line = "K10" + hash + "::server:" + next + "\n"
	for outcome, says := range map[supervisor.Outcome][]string{
		supervisor.Rotated:    {"server token rotated", "2. Restart https://10.0.0.1:6443", "Keep the old token"},
		supervisor.Unknown:    {"error: the connection is gone", "error: it is not known whether", "repeat it through the same server"},
		supervisor.NotRotated: {"error: the connection is gone", "error: the server token was not rotated"},
	} {
		want := line
		if outcome == supervisor.NotRotated {
			want = ""
		}
		for _, name := range []string{"", filepath.Join(t.TempDir(), "new")} {
			stdout, stderr := run(t, &session{outcome: outcome, onRotate: func() {
				if content, err := os.ReadFile(name); name != "" && string(content) != line {
					t.Errorf("the file lacks the token when the server is told: %v", err)
				}
			}}, name)
			content, _ := os.ReadFile(name)
			if got := stdout + string(content); got != want || strings.Contains(stderr, next) || strings.Contains(stderr, current) {
				t.Errorf("%s: the user has %q, want %q, or a token is on stderr", outcome, got, want)
			}
			for _, part := range says {
				if !strings.Contains(stderr, part) {
					t.Errorf("%s: lacks %q:\n%s", outcome, part, stderr)
				}
			}
		}
	}
}
