package rotate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
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
	api         *fake.Clientset
	answer      supervisor.Rotation
	onRotate    func()
	told        bool
}

func (s *setup) CAHash() string { return hash }
func (s *setup) Remote() string { return "10.0.0.1:6443" }
func (s *setup) Proxied() bool  { return false }
func (s *setup) Close()         {}

func (s *setup) Probe(context.Context, token.Token) (supervisor.Finding, error) {
	return supervisor.Finding{Servers: supervisor.Answer{Verdict: supervisor.Accepted}}, nil
}

func (s *setup) Rotate(context.Context, token.Token, token.Secret) supervisor.Rotation {
	s.told = true
	s.onRotate()
	return s.answer
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	bundle, bundleErr := os.ReadFile("../../token/testdata/single.pem")
	url, err := supervisor.ParseURL("https://10.0.0.1:6443")
	if err = errors.Join(err, bundleErr); err != nil {
		t.Fatal(err)
	}
	s := &setup{answer: supervisor.Rotation{Outcome: supervisor.Rotated}, onRotate: func() {}}
	s.api = fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-root-ca.crt"},
		Data:       map[string]string{"ca.crt": string(bundle)},
	})
	s.api.PrependReactor("create", "configmaps", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return action.(clienttesting.CreateActionImpl).CreateOptions.DryRun != nil, &corev1.ConfigMap{}, nil
	})
	s.Options = rotate.NewOptions(cmdutil.Streams{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &s.out, ErrOut: &s.errOut}})
	s.Yes, s.DryRun = true, cmdutil.DryRunNone
	s.Rotation = rotation.Options{
		Servers: []supervisor.URL{url},
		Current: token.Token{CAHash: hash, User: token.UserServer, Secret: current},
		New:     token.Token{User: token.UserServer, Secret: next},
		Open:    func(context.Context, supervisor.URL, token.Token) (rotation.Session, error) { return s, nil },
		Cluster: &cluster.Cluster{Config: &rest.Config{}, Client: s.api.CoreV1()},
	}
	return s
}

// state is what the record says; empty if there is none.
func (s *setup) state() string {
	record, err := s.api.Tracker().Get(corev1.SchemeGroupVersion.WithResource("configmaps"), "kube-system", rotation.RecordName)
	if err != nil {
		return ""
	}
	return record.(*corev1.ConfigMap).Data["state"]
}

// run runs the verb and returns what it would report.
func (s *setup) run(ctx context.Context, t *testing.T) (string, error) {
	t.Helper()
	printer, err := s.Print.ToPrinter()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(ctx, printer)
	if err != nil {
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

// writer is a standard output that calls a function.
type writer func() error

func (w writer) Write(p []byte) (int, error) { return len(p), w() }

// TestTheNewTokenReachesTheUserInEachOutcome has the token in the file before
// the server is told, or printed before the record tells the outcome.
func TestTheNewTokenReachesTheUserInEachOutcome(t *testing.T) {
	t.Parallel()
	reason := errors.New("the connection is gone")
	for _, test := range []struct {
		answer supervisor.Rotation
		says   []string
	}{
		{supervisor.Rotation{Outcome: supervisor.Rotated}, []string{"server token rotated", "2. Restart https://10.0.0.1:6443", "Keep the old token"}},
		{supervisor.Rotation{Outcome: supervisor.Unknown, Err: reason}, []string{"error: the connection is gone", "error: it is not known whether", "repeat it through the same server"}},
		{supervisor.Rotation{Outcome: supervisor.NotRotated, Err: reason}, []string{"error: the connection is gone", "error: the server token was not rotated"}},
	} {
		want, state := line(next), string(test.answer.Outcome)
		if test.answer.Outcome == supervisor.NotRotated {
			want, state = "", ""
		}
		for _, inFile := range []bool{false, true} {
			s := newSetup(t)
			s.answer = test.answer
			file := filepath.Join(t.TempDir(), "new")
			if inFile {
				s.OutputFile = file
				s.onRotate = func() {
					if content, err := os.ReadFile(file); err != nil || string(content) != line(next) {
						t.Errorf("the file lacks the token when the server is told: %v", err)
					}
				}
			}
			s.Out = io.MultiWriter(&s.out, writer(func() error {
				if state := s.state(); !inFile && state != "started" {
					t.Errorf("when the token is printed, the record is %q", state)
				}
				return nil
			}))
			stderr, err := s.run(t.Context(), t)
			has(t, stderr, test.says...)
			content, _ := os.ReadFile(file)
			if got := s.out.String() + string(content); got != want || s.state() != state || (err == nil) != (state == "rotated") {
				t.Errorf("%s: the user has %q, want %q; the record is %q, and the error %v", state, got, want, s.state(), err)
			}
		}
	}
}

func TestATokenThatCannotBePrintedIsSaved(t *testing.T) {
	given, generated := newSetup(t), newSetup(t)
	given.NewToken = next
	t.Chdir(t.TempDir())
	for files, s := range []*setup{given, generated} {
		s.Out = writer(func() error { return errors.New("no space left") })
		stderr, err := s.run(t.Context(), t)
		has(t, stderr, "no space left", "server token rotated")
		saved, _ := filepath.Glob("k3s-new-server-token-*")
		if err == nil || len(saved) != files {
			t.Fatalf("got error %v, and files %v", err, saved)
		}
		for _, file := range saved {
			has(t, stderr, "hint: the new token was saved to "+file)
			if content, err := os.ReadFile(file); err != nil || string(content) != line(next) {
				t.Errorf("the file lacks the token: %v", err)
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
		stderr, err := s.run(t.Context(), t)
		if has(t, stderr, test.says); err == nil || s.told || s.state() != "" || s.out.String() != "" {
			t.Errorf("%s: got error %v; the server was told, a record is left, or something printed", name, err)
		}
	}
	if content, _ := os.ReadFile(existing); string(content) != "precious" {
		t.Error("the file was overwritten")
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.Yes, s.DryRun, s.OutputFile = false, cmdutil.DryRunServer, filepath.Join(t.TempDir(), "new")
	stderr, err := s.run(t.Context(), t)
	has(t, stderr, "server to tell: https://10.0.0.1:6443", "server token not rotated (server dry run)")
	if _, statErr := os.Stat(s.OutputFile); err != nil || s.told || s.out.String() != "" || statErr == nil {
		t.Errorf("got error %v; the server was told, or there is a file or output", err)
	}
}

func TestAnInterruptBeforeTheRequestLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.OutputFile = filepath.Join(t.TempDir(), "new")
	ctx, interrupt := context.WithCancel(t.Context())
	s.api.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		interrupt()
		return false, nil, nil
	})
	stderr, err := s.run(ctx, t)
	has(t, stderr, "error: interrupted", "error: the server token was not rotated")
	if _, statErr := os.Stat(s.OutputFile); !errors.Is(err, context.Canceled) || s.told || statErr == nil {
		t.Errorf("got error %v; the server was told, or the file is left", err)
	}
}

func TestStructuredResults(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	*s.Print.OutputFormat = "jsonpath={.kind} {.outcome} {.server} {.restart[0]} {.token}\n"
	if _, err := s.run(t.Context(), t); err != nil || s.out.String() != "TokenRotation rotated https://10.0.0.1:6443 https://10.0.0.1:6443 "+line(next) {
		t.Errorf("got %q, %v", s.out.String(), err)
	}
	s = newSetup(t)
	*s.Print.OutputFormat, s.OutputFile = "jsonpath={.outcome} {.errorID}", filepath.Join(t.TempDir(), "new")
	s.answer = supervisor.Rotation{Outcome: supervisor.Unknown, ErrorID: "01234", Err: errors.New("failed")}
	if _, err := s.run(t.Context(), t); err == nil || s.out.String() != "unknown 01234" {
		t.Errorf("got %q, %v", s.out.String(), err)
	}
}

func execute(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	var errOut bytes.Buffer
	streams := cmdutil.Streams{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: io.Discard, ErrOut: &errOut}}
	flags := genericclioptions.NewConfigFlags(true)
	*flags.APIServer = "https://127.0.0.1:1" // nothing listens there
	cmd := rotate.NewCommand(cmdutil.NewClients(flags, streams), streams)
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	if err != nil {
		cmdutil.ReportError(&errOut, err)
	}
	return errOut.String(), err
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "current")
	if err := os.WriteFile(file, []byte(line(current)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		stdin string
		args  []string
		says  string
	}{
		"no current token":      {"", []string{"-y"}, "current token: no token given"},
		"no such file":          {"", []string{"-y", "--token-file", "nowhere"}, "current token: open nowhere"},
		"no such new file":      {"", []string{"-y", "--token-file", file, "--new-token-file", "nowhere"}, "new token: open nowhere"},
		"an argument":           {"", []string{next}, "accepts no arguments"},
		"an empty flag":         {"", []string{"-y", "--new-token-output", ""}, "--new-token-output is empty"},
		"twice standard input":  {current, []string{"-y", "-t", "-", "--new-token", "-"}, "new token: standard input is empty"},
		"two new tokens":        {"", []string{"--new-token", next, "--new-token-file", "f"}, "none of the others can be"},
		"a malformed server":    {"", []string{"-y", "--token-file", file, "-s", "k3s"}, "put https:// in front"},
		"an unknown format":     {"", []string{"-y", "--token-file", file, "-o", "wide"}, "unable to match a printer"},
		"a bad dry run":         {"", []string{"--dry-run=yes", "-y"}, "invalid dry-run value"},
		"an agent token":        {"K10" + hash + "::node:" + next, []string{"-y", "-t", "-"}, "the current token is of type agent"},
		"a bad new token":       {"abcdef.0123456789abcdef", []string{"-y", "--token-file", file, "--new-token", "-"}, "form of a bootstrap token"},
		"an unsafe new token":   {"", []string{"-y", "--token-file", file, "--new-token", "short"}, "--allow-unsafe-token"},
		"a client dry run":      {"short", []string{"--dry-run=client", "--token-file", file, "--new-token", "-", "--allow-unsafe-token"}, "the tokens are well-formed"},
		"a server that is down": {"", []string{"-y", "--token-file", file}, "step 1, download the CA bundle"},
	} {
		stderr, err := execute(t, test.stdin, test.args...)
		if has(t, stderr, test.says); (err == nil) != (name == "a client dry run") || strings.Contains(stderr, current) || strings.Contains(stderr, next) {
			t.Errorf("%s: got error %v, or a token on stderr:\n%s", name, err, stderr)
		}
	}
}
