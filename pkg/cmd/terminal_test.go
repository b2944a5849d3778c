package cmd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/creack/pty"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"plain text, ünïcode 漢字 🙂": "plain text, ünïcode 漢字 🙂",
		"\ufffd":                   "\ufffd",
		"a\nb":                     `a\nb`,
		"a\tb\rc":                  `a\tb\rc`,
		"\x1b[31mred\x1b[0m":       `\u001b[31mred\u001b[0m`,
		"\x1b]0;title\x07":         `\u001b]0;title\u0007`,
		"\x00\x7f":                 `\u0000\u007f`,
		"C1 \u009b31m":             `C1 \u009b31m`,
		"bytes \x9b\xff":           `bytes \x9b\xff`,
		"cut \xe6\xbc":             `cut \xe6\xbc`,
		"bidi \u202egnp.exe":       `bidi \u202egnp.exe`,
		"isolate \u2066x\u2069":    `isolate \u2066x\u2069`,
		"marks \u200e\u200f\u061c": `marks \u200e\u200f\u061c`,
		"zero width \u200b\ufeff":  `zero width \u200b\ufeff`,
		"lines \u2028\u2029\u0085": `lines \u2028\u2029\u0085`,
		"blank \u00a0":             `blank \u00a0`,
		"tag \U000e0041":           `tag \U000e0041`,
		"private \ue000":           `private \ue000`,
		`backslash \u001b`:         `backslash \u001b`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%+q) = %+q, want %+q", in, got, want)
		}
	}
	if got := escape("a\tb\nc\x1b", "\n\t"); got != "a\tb\nc\\u001b" {
		t.Errorf("what is kept is escaped: %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"", "plain", "a\nb\tc\r", "\x1b[31m", "\u009b", "\x9b\xff", "\u202e\u2066", "\xe6\xbc", "\ufffd", "\U000e0041"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q holds %U, which does not print", got, r)
			}
		}
		if printable(got) != got {
			t.Fatal("what prints is escaped")
		}
		if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 && got != s {
			t.Fatal("what prints was changed")
		}
	})
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":            "''",
		"plain":       "'plain'",
		"it's":        `'it'\''s'`,
		"'":           `''\'''`,
		"$(x) `x` \\": "'$(x) `x` \\'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzShellQuote(f *testing.F) {
	if runtime.GOOS == "windows" {
		f.Skip("there is no /bin/sh")
	}
	for _, seed := range []string{"", "plain", "it's", "'", `\`, `\'`, "$HOME", "$(id)", "`id`", "a b\tc\nd\n", "!!", "-n", "%s", `"`, "*?[", "~", "\x1b\xff", "#;&|<>(){}", "K10::server:pä$$'w\"rd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) || len(s) > 64<<10 {
			t.Skip("no argument of a program holds it")
		}
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf %s "+shellQuote(s)).CombinedOutput()
		if err != nil || string(out) != s {
			t.Fatalf("sh makes %q of %q (%v)", out, s, err)
		}
	})
}

// terminal returns an Env whose streams are a terminal, and the other end.
func terminal(t *testing.T) (*Env, *os.File) {
	t.Helper()
	person, tty, err := pty.Open()
	if errors.Is(err, pty.ErrUnsupported) {
		t.Skip("there are no pseudo-terminals on", runtime.GOOS)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = person.Close()
		_ = tty.Close()
	})
	return &Env{IOStreams: genericiooptions.IOStreams{In: tty, Out: tty, ErrOut: tty}}, person
}

// readUntil returns what a terminal shows, up to that text.
func readUntil(t *testing.T, person *os.File, text string) string {
	t.Helper()
	shown := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		b := make([]byte, 1)
		for !strings.HasSuffix(all.String(), text) {
			if _, err := person.Read(b); err != nil {
				break
			}
			all.Write(b)
		}
		shown <- all.String()
	}()
	select {
	case s := <-shown:
		return s
	case <-time.After(5 * time.Second):
		t.Fatalf("the terminal does not show %q", text)
		return ""
	}
}

func TestConfirmAsksOnATerminal(t *testing.T) {
	for answer, want := range map[string]error{
		"y\n": nil, "Y\n": nil, "yes\n": nil, " YES \n": nil,
		"\n": errNotConfirmed, "n\n": errNotConfirmed, "yess\n": errNotConfirmed, "\x04": errNotConfirmed,
	} {
		env, person := terminal(t)
		confirmed := make(chan error, 1)
		go func() { confirmed <- env.confirm(t.Context(), "delete \x1b[31mall") }()
		if shown := readUntil(t, person, "[y/N] "); shown != `Do you want to delete \u001b[31mall? [y/N] ` {
			t.Errorf("it asks %q", shown)
		}
		if _, err := person.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		if err := <-confirmed; !errors.Is(err, want) {
			t.Errorf("%q: error %v, want %v", answer, err, want)
		}
	}
}

func TestConfirmEndsWithAnInterrupt(t *testing.T) {
	env, person := terminal(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	confirmed := make(chan error, 1)
	go func() { confirmed <- env.confirm(ctx, "delete") }()
	readUntil(t, person, "[y/N] ")
	cancel(Interrupted{ExitCode: 130})
	if err := <-confirmed; !errors.Is(err, Interrupted{ExitCode: 130}) {
		t.Errorf("error %v, want the interrupt", err)
	}
	// Its reader waits for the terminal still.
	if _, err := person.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
}

func TestConfirmWithoutATerminalNamesTheFlag(t *testing.T) {
	env, _ := terminal(t)
	var stderr bytes.Buffer
	for name, streams := range map[string]genericiooptions.IOStreams{
		"stdin is a pipe":  {In: strings.NewReader("y\n"), ErrOut: env.ErrOut},
		"stderr is a pipe": {In: env.In, ErrOut: &stderr},
	} {
		err := (&Env{IOStreams: streams}).confirm(t.Context(), "delete all")
		if err == nil || err.Error() != "there is no terminal to ask on: add --yes to delete all" {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("stderr is %q", stderr.String())
	}
}

func TestATerminalGetsResultsEscaped(t *testing.T) {
	env, person := terminal(t)
	if err := env.writeResult([]byte("a\x1b[31m\tb\n")); err != nil {
		t.Fatal(err)
	}
	if shown := readUntil(t, person, "b\r\n"); !strings.HasPrefix(shown, `a\u001b[31m`) {
		t.Errorf("it shows %q", shown)
	}
	var pipe bytes.Buffer
	env.Out = &pipe
	if err := env.writeResult([]byte("a\x1b[31m\tb\n")); err != nil || pipe.String() != "a\x1b[31m\tb\n" {
		t.Errorf("a pipe gets %q (%v)", pipe.String(), err)
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	env, person := terminal(t)
	progress := env.newProgress("created", 33)
	for n := range 34 {
		progress.step(n)
	}
	progress.clear()
	const blank = "\r                \r"
	if shown := readUntil(t, person, blank); shown != "\rcreated 0 of 33\rcreated 32 of 33\rcreated 33 of 33"+blank {
		t.Errorf("it shows %q", shown)
	}
	one := env.newProgress("created", 1)
	one.step(1)
	one.clear()
	var pipe bytes.Buffer
	env.ErrOut = &pipe
	many := env.newProgress("created", 33)
	many.step(33)
	many.clear()
	if pipe.Len() > 0 {
		t.Errorf("a pipe gets %q", pipe.String())
	}
	env.note("end")
	if one.shown || many.shown {
		t.Error("it is shown for one, or to a pipe")
	}
}
