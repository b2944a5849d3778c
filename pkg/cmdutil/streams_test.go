package cmdutil_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

const (
	secret = "0123456789abcdef"
	secure = "K10000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f::abcdef." + secret
)

func newStreams(stdin string) (streams cmdutil.Streams, errOut *bytes.Buffer) {
	ioStreams, in, _, errOut := genericiooptions.NewTestIOStreams()
	in.WriteString(stdin)
	return cmdutil.Streams{IOStreams: ioStreams}, errOut
}

// report returns what the user sees of an error.
func report(err error) string {
	var out bytes.Buffer
	if err != nil {
		cmdutil.ReportError(&out, err)
	}
	return out.String()
}

// has fails the test if the text lacks one of the parts.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("lacks %q:\n%s", part, text)
		}
	}
}

func TestAnInterruptEndsTheWaitForWhatNeverEnds(t *testing.T) {
	for name, test := range map[string]struct {
		wait  func(context.Context, cmdutil.Streams) error
		grace time.Duration
	}{
		"a token on stdin": {func(ctx context.Context, s cmdutil.Streams) error { _, err := s.ReadToken(ctx, "-"); return err }, 0},
		"tokens on stdin": {func(ctx context.Context, s cmdutil.Streams) error {
			_, err := s.ReadRefs(ctx, []string{"-"}, false)
			return err
		}, 0},
		"a blocked stdout": {func(ctx context.Context, s cmdutil.Streams) error { return s.Write(ctx, []byte("result")) }, bootstrap.Grace},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			defer r.CloseWithError(errors.New("over"))
			streams, _ := newStreams("")
			streams.In, streams.Out = r, w
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(time.Hour, interrupt)
			start := time.Now()
			err := test.wait(ctx, streams)
			if took := time.Since(start); report(err) != "error: interrupted\n" || took != time.Hour+test.grace {
				t.Errorf("%s: got error %v after %v", name, err, took)
			}
		})
	}
}

func TestNotesCannotSteerATerminal(t *testing.T) {
	t.Parallel()
	streams, errOut := newStreams("")
	streams.Warnf("%s", "red\x1b[31m")
	streams.Notef("%s", "back\r")
	has(t, errOut.String(), "Warning: red^[[31m", "\nback\\r\n")
}

func TestOneTokenComesFromOneOfFourPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("\ufeff"+secure+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args                         []string
		flag, file, stdin, env, says string
	}{
		"argument":         {args: []string{secure}, env: "hunter2"},
		"standard input":   {args: []string{"-"}, stdin: " " + secure + " \n\n"},
		"flag":             {flag: secure, env: "hunter2"},
		"file":             {file: file, env: "hunter2"},
		"variable":         {env: secure + "\n"},
		"nothing":          {says: "error: no token given\nhint: give a TOKEN"},
		"two":              {file: file, args: []string{"-"}, says: "error: the token is given twice\n"},
		"malformed":        {args: []string{"K10" + secret + "::hunter2"}, says: "error: invalid CA hash: must be 64 characters, got 16\n"},
		"empty":            {args: []string{"-"}, stdin: "\n", says: "error: standard input: invalid token: must not be empty\n"},
		"a file not there": {file: "nowhere", says: "error: open nowhere: "},
	} {
		t.Setenv("K3S_TOKEN", test.env)
		streams, _ := newStreams(test.stdin)
		got, err := streams.ReadOneToken(t.Context(), test.args, test.flag, test.file)
		has(t, report(err), test.says)
		if good := test.says == ""; good != (err == nil) || good != (got.Reveal() == secure) || strings.Contains(report(err), "hunter2") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestReferencesComeFromArgumentsAndStandardInput(t *testing.T) {
	t.Parallel()
	streams, _ := newStreams("\nbootstrap-token-ghijkl\r\n\n  secret/odd \n")
	refs, err := streams.ReadRefs(t.Context(), []string{"abcdef." + secret, "-"}, false)
	if err != nil || len(refs) != 3 || refs[0].Secret != secret || refs[1].String() != "ghijkl" || refs[2].String() != "secret/odd" {
		t.Errorf("got %v, %v", refs, err)
	}
	streams, _ = newStreams("abcdef\n\nhunter2hunter2")
	refs, err = streams.ReadRefs(t.Context(), []string{"abcdef", "-"}, false)
	if got := report(err); !strings.HasPrefix(got, "error: line 3 of standard input: not a bootstrap token\nhint: use a token id") {
		t.Errorf("got %v, %v", refs, got)
	}
}
