package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// campaign is how often each command is interrupted, or at how many places each
// connection is cut: a few in every run of the tests, and as many as
// K3STOKEN_CAMPAIGN says in make campaign.
func campaign(t *testing.T, usually int) int {
	t.Helper()
	text := os.Getenv("K3STOKEN_CAMPAIGN")
	if text == "" {
		return usually
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("K3STOKEN_CAMPAIGN=%q: it takes a number from 1 on", text)
	}
	return n
}

// result is what a command left.
type result struct {
	stdout, stderr string
	exitCode       int
	took           time.Duration
}

// An attempt is one run of the plugin, which a signal may end.
type attempt struct {
	args   []string
	stdin  io.Reader // nil for none
	dir    string    // where it runs
	signal syscall.Signal
	delay  time.Duration // from the start to the signal
}

// on runs the plugin, and sends it the signal unless it has ended by then.
func (a attempt) on(t *testing.T, server *k3stest.Server) result {
	t.Helper()
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, binary, a.args...)
	command.Env = []string{"KUBECONFIG=" + server.Kubeconfig, "HOME=" + t.TempDir()}
	command.Stdin, command.Stdout, command.Stderr, command.Dir = a.stdin, &stdout, &stderr, a.dir
	start := time.Now()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(a.delay, func() { interruptWithEcho(command.Process, a.signal) })
	defer timer.Stop()
	err = command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), exitCode: exitCode(command.ProcessState), took: time.Since(start)}
}

// interruptWithEcho sends a signal, and once more: of a terminal that is gone a
// process hears from its shell and from the kernel, and timeout signals a process
// and then its group.
func interruptWithEcho(process *os.Process, signal syscall.Signal) {
	_ = process.Signal(signal)
	time.Sleep(5 * time.Millisecond)
	_ = process.Signal(signal) // it may have ended
}

// exitCode is what a shell makes of how a process ended.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		// Before main, Go's runtime has no handler yet.
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// tokenEnds returns the ids of the tokens that the cluster has, and when each
// ends.
func tokenEnds(t *testing.T, server *k3stest.Server) map[string]string {
	t.Helper()
	tokens, err := storedTokens(server)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]string{}
	for id, stored := range tokens {
		ends[id] = stored.expiration
	}
	return ends
}

// moments returns delays spread over a command's run time, in random order, so
// that each part of it is interrupted.
func moments(n int, longest time.Duration) []time.Duration {
	delays := make([]time.Duration, n)
	for i := range delays {
		delays[i] = time.Duration((float64(i) + rand.Float64()) / float64(n) * float64(longest))
	}
	rand.Shuffle(len(delays), func(i, j int) { delays[i], delays[j] = delays[j], delays[i] })
	return delays
}

// interrupted runs a command to its end, to see how long it takes, and then
// again and again, ended at all moments of that time by one signal or the other.
// prepare sets the stage for each run and returns its command line; check says
// what is wrong with how one ended, or nothing.
func interrupted(t *testing.T, server *k3stest.Server, prepare func(t *testing.T, dir string) []string, check func(t *testing.T, dir string, got result, ended bool) string) {
	t.Helper()
	one := func(signal syscall.Signal, delay time.Duration) result {
		dir := t.TempDir()
		got := attempt{args: prepare(t, dir), dir: dir, signal: signal, delay: delay}.on(t, server)
		ended := got.exitCode == 128+int(signal)
		wrong := check(t, dir, got, ended)
		switch {
		case wrong != "":
		case !ended && got.exitCode != 0:
			wrong = fmt.Sprintf("exit code %d, want 0 or %d", got.exitCode, 128+int(signal))
		case ended && got.stderr != "" && !strings.Contains(got.stderr, "interrupted"):
			wrong = "it does not say that it was interrupted"
		}
		if leftovers, err := filepath.Glob(filepath.Join(dir, ".k3s-token-*")); err != nil || len(leftovers) > 0 {
			wrong += fmt.Sprintf("; %d files are left", len(leftovers))
		}
		if wrong != "" {
			t.Errorf("%v after %v: %s; stderr:\n%s", signal, delay, wrong, redact([]any{got.stderr})[0])
		}
		return got
	}
	longest := min(one(syscall.SIGINT, time.Hour).took, one(syscall.SIGINT, time.Hour).took)
	hit, n := 0, campaign(t, 20)
	for i, delay := range moments(n, longest) {
		if got := one([]syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2], delay); got.exitCode != 0 {
			hit++
		}
	}
	if hit == 0 {
		t.Error("no run was interrupted: the delays are too long")
	}
	t.Logf("%d of %d runs interrupted", hit, n)
}

func TestInterruptedCreateLeavesNoTokenThatNobodySaw(t *testing.T) {
	server := borrowServer(t, "k3s")
	for name, args := range map[string][]string{
		"one": {"create"}, "many": {"create", "--count", "40"}, "to a file": {"create", "--count", "20", "--output-file", "tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			interrupted(t, server, func(t *testing.T, _ string) []string {
				if err := deleteBootstrapTokens(server); err != nil {
					t.Fatal(err)
				}
				return args
			}, func(t *testing.T, dir string, got result, ended bool) string {
				seen := got.stdout
				if content, err := os.ReadFile(filepath.Join(dir, "tokens")); err == nil {
					seen += string(content)
				}
				printed, made := strings.Count(seen, "K10"), len(tokenEnds(t, server))
				switch {
				case ended && printed > 0:
					return "something was printed"
				case ended && made > 0:
					return fmt.Sprintf("the cluster has %d tokens", made)
				case printed != made:
					return fmt.Sprintf("%d tokens printed, and the cluster has %d", printed, made)
				}
				return ""
			})
		})
	}
}

// createTokens gives the cluster that many tokens, and no others.
func createTokens(t *testing.T, server *k3stest.Server, n int) {
	t.Helper()
	if err := deleteBootstrapTokens(server); err != nil {
		t.Fatal(err)
	}
	got := attempt{args: []string{"create", "--ttl", "1h", "--count", strconv.Itoa(n), "-o", "name"}, delay: time.Hour}.on(t, server)
	if got.exitCode != 0 {
		t.Fatalf("create: %s", got.stderr)
	}
}

func TestInterruptedDeleteSaysWhatIsGone(t *testing.T) {
	server := borrowServer(t, "k3s")
	var before map[string]string
	interrupted(t, server, func(t *testing.T, _ string) []string {
		createTokens(t, server, 60)
		before = tokenEnds(t, server)
		return []string{"delete", "--all", "--yes", "-o", "name"}
	}, func(t *testing.T, _ string, got result, ended bool) string {
		after := tokenEnds(t, server)
		for id := range before {
			_, left := after[id]
			if said := strings.Contains(got.stdout, secretPrefix+id+"\n"); said == left {
				return fmt.Sprintf("token %s: said to be deleted: %v, left: %v", id, said, left)
			}
		}
		if !ended && len(after) > 0 {
			return fmt.Sprintf("%d tokens are left", len(after))
		}
		return ""
	})
}

func TestInterruptedExtendSaysWhatIsExtended(t *testing.T) {
	server := borrowServer(t, "k3s")
	createTokens(t, server, 60)
	var before map[string]string
	hours := 1
	interrupted(t, server, func(t *testing.T, _ string) []string {
		before = tokenEnds(t, server)
		hours++
		args := []string{"extend", "-o", "name", "--ttl", strconv.Itoa(hours) + "h"}
		for id := range before {
			args = append(args, id)
		}
		return args
	}, func(t *testing.T, _ string, got result, ended bool) string {
		for id, end := range tokenEnds(t, server) {
			extended := end != before[id]
			if said := strings.Contains(got.stdout, secretPrefix+id+"\n"); said != extended {
				return fmt.Sprintf("token %s: said to be extended: %v, and it is: %v", id, said, extended)
			}
			if !ended && !extended {
				return fmt.Sprintf("token %s was left out", id)
			}
		}
		return ""
	})
}

func TestInterruptedListPrintsWholeLines(t *testing.T) {
	server := borrowServer(t, "k3s")
	createTokens(t, server, 60)
	list := []string{"list", "-o", "name", "--chunk-size", "4"}
	whole := attempt{args: list, delay: time.Hour}.on(t, server).stdout
	if strings.Count(whole, "\n") != 60 {
		t.Fatalf("the list is\n%s", whole)
	}
	interrupted(t, server, func(*testing.T, string) []string { return list },
		func(_ *testing.T, _ string, got result, ended bool) string {
			switch {
			case !ended && got.stdout != whole:
				return "the list is not whole"
			case !strings.HasPrefix(whole, got.stdout), got.stdout != "" && !strings.HasSuffix(got.stdout, "\n"):
				return "there is half a line"
			}
			return ""
		})
}

func TestInterruptedVerifyChangesNothing(t *testing.T) {
	server := borrowServer(t, "k3s")
	token := attempt{args: []string{"create"}, delay: time.Hour}.on(t, server).stdout
	before := tokenEnds(t, server)
	interrupted(t, server, func(t *testing.T, dir string) []string {
		if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"verify", "--token-file", "token"}
	}, func(t *testing.T, _ string, got result, ended bool) string {
		switch after := tokenEnds(t, server); {
		case !maps.Equal(before, after):
			return "the cluster has other tokens"
		case strings.Contains(got.stdout, "refused"), strings.Contains(got.stdout, "failed"):
			return "it takes an interrupt for the server's answer"
		case !ended && !strings.Contains(got.stdout, "Verdict: accepted"):
			return "there is no verdict"
		}
		return ""
	})
}

func TestInterruptedGeneratePrintsATokenOrNone(t *testing.T) {
	server := borrowServer(t, "k3s")
	interrupted(t, server, func(*testing.T, string) []string { return []string{"generate", "--count", "1000", "--type", "server"} },
		func(_ *testing.T, _ string, got result, ended bool) string {
			if want := map[bool]int{false: 1000}[ended]; strings.Count(got.stdout, "\n") != want {
				return fmt.Sprintf("%d lines are printed, want %d", strings.Count(got.stdout, "\n"), want)
			}
			return ""
		})
}

// promptly is how soon after a signal a command that waits has to end.
const promptly = 10 * time.Second

// TestInterruptedWhileItReads ends commands that wait for a standard input which
// says nothing, or half of a token.
func TestInterruptedWhileItReads(t *testing.T) {
	server := borrowServer(t, "k3s")
	createTokens(t, server, 1)
	before := tokenEnds(t, server)
	commands := [][]string{{"inspect", "-"}, {"create", "-"}, {"delete", "-"}, {"extend", "-", "--ttl", "1h"}, {"verify", "-"}, {"rotate", "--yes", "-t", "-"}}
	n := campaign(t, 20)
	t.Run("side by side", func(t *testing.T) { // since each mostly waits
		for i, delay := range moments(n, 150*time.Millisecond) {
			args, signal := commands[i%len(commands)], []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i/len(commands)%2]
			t.Run(fmt.Sprintf("%s %d", args[0], i), func(t *testing.T) {
				t.Parallel()
				reader, writer, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer writer.Close()
				defer reader.Close()
				if _, err := writer.WriteString([]string{"", "abcdef.01234"}[i%2]); err != nil {
					t.Fatal(err)
				}
				got := attempt{args: args, stdin: reader, signal: signal, delay: delay}.on(t, server)
				if got.exitCode != 128+int(signal) || got.took > delay+promptly || got.stdout != "" {
					t.Errorf("%v after %v: exit code %d after %v, %d bytes printed; stderr:\n%s", signal, delay, got.exitCode, got.took, len(got.stdout), got.stderr)
				}
			})
		}
	})
	if after := tokenEnds(t, server); !maps.Equal(before, after) {
		t.Error("the cluster has other tokens")
	}
	t.Logf("%d of %d runs interrupted", n, n)
}

// readUntil reads a terminal's screen until it shows the text, or until the time
// is up.
func readUntil(screen *os.File, text string, bound time.Duration) (shown string, found bool) {
	chunks := make(chan string)
	over := make(chan struct{})
	defer close(over)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := screen.Read(buffer)
			select {
			case chunks <- string(buffer[:n]):
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for !strings.Contains(shown, text) {
		select {
		case chunk := <-chunks:
			shown += chunk
		case <-timer.C:
			return shown, false
		}
	}
	return shown, true
}

// TestInterruptedQuestion ends commands that wait for an answer on a terminal.
// The terminal is left as it was: what is typed can be seen.
func TestInterruptedQuestion(t *testing.T) {
	server := borrowServer(t, "k3s")
	createTokens(t, server, 2)
	before := tokenEnds(t, server)
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	commands := [][]string{{"delete", "--all"}, {"rotate"}}
	n := campaign(t, 20)
	asked := 0
	// Before it asks, delete makes a list.
	untilAsked := attempt{args: []string{"list"}, delay: time.Hour}.on(t, server).took
	for i, delay := range moments(n, 3*untilAsked) {
		args, signal := commands[i%len(commands)], []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i/len(commands)%2]
		ctx, cancel := context.WithTimeout(t.Context(), delay+promptly)
		command := exec.CommandContext(ctx, binary, args...)
		command.Env = []string{"KUBECONFIG=" + server.Kubeconfig, "HOME=" + t.TempDir(), "TERM=xterm"}
		screen, terminal, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		command.Stdin, command.Stdout, command.Stderr = terminal, terminal, terminal
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(delay, func() { _ = command.Process.Signal(signal) })
		_ = command.Wait() // the exit code says how it ended
		timer.Stop()
		cancel()
		if _, err := io.WriteString(screen, "typed later\n"); err != nil {
			t.Fatal(err)
		}
		shown, echoed := readUntil(screen, "typed later", promptly)
		if !echoed {
			t.Errorf("%s, %v after %v: the terminal shows nothing that is typed", args[0], signal, delay)
		}
		_, _ = terminal.Close(), screen.Close()
		if code := exitCode(command.ProcessState); code != 128+int(signal) {
			t.Errorf("%s, %v after %v: exit code %d; on the terminal:\n%s", args[0], signal, delay, code, shown)
		}
		if strings.Contains(shown, "[y/N]") || strings.Contains(shown, "Current server token:") {
			asked++
		}
	}
	if after := tokenEnds(t, server); !maps.Equal(before, after) {
		t.Error("the cluster has other tokens")
	}
	if asked == 0 {
		t.Error("no command came to its question: the delays are too short")
	}
	t.Logf("%d of %d runs interrupted, %d of them at the question", n, n, asked)
}

// TestInterruptedRotateNeverLosesTheNewToken ends rotate at all moments, by
// each signal. Whatever the server has on its disk then, the user has as well.
func TestInterruptedRotateNeverLosesTheNewToken(t *testing.T) {
	besideOthers(t)
	requireBuilt(t, "k3s")
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	o := newOperator(t, server)
	current, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"rotate", "--yes", "--force", "--token-file", filepath.Join(o.dir, o.file(t, "old", current)), "--new-token-output"}
	interrupted, changed, n := 0, 0, campaign(t, 20)
	undisturbed := attempt{args: append(args[:len(args):len(args)], filepath.Join(o.dir, "new")), delay: time.Hour}.on(t, server)
	if undisturbed.exitCode != 0 {
		t.Fatalf("rotate: %s", hidePasswords(undisturbed.stderr))
	}
	for i, delay := range moments(n, 2*undisturbed.took) {
		before, err := server.ServerToken()
		if err != nil {
			t.Fatal(err)
		}
		signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL}[i%4]
		file := filepath.Join(o.dir, "new-"+strconv.Itoa(i))
		// Only a file is safe from SIGKILL.
		toFile := i%2 == 1
		line := append(args[:len(args):len(args)], file)
		if !toFile {
			line = args[:len(args)-1]
		}
		got := attempt{args: line, signal: signal, delay: delay}.on(t, server)
		time.Sleep(300 * time.Millisecond) // the server ends what it has begun
		after, err := server.ServerToken()
		if err != nil {
			t.Fatal(err)
		}
		kept := strings.TrimSpace(got.stdout)
		if content, err := os.ReadFile(file); err == nil {
			kept = strings.TrimSpace(string(content))
		}
		switch got.exitCode {
		case 0:
		case 128 + int(signal):
			interrupted++
		default:
			t.Errorf("%v after %v: exit code %d; stderr:\n%s", signal, delay, got.exitCode, hidePasswords(got.stderr))
		}
		if after != before {
			changed++
			if kept != after {
				t.Errorf("%v after %v: the server has a token that the user does not have; stderr:\n%s", signal, delay, hidePasswords(got.stderr))
			}
		} else if got.exitCode == 0 {
			t.Errorf("%v after %v: exit code 0, and the server has its old token", signal, delay)
		}
		if signal != syscall.SIGKILL && after == before && kept != "" && !strings.Contains(got.stderr, "not in use") && !strings.Contains(got.stderr, "Keep both tokens") {
			t.Errorf("%v after %v: a token that is not in use is left; stderr:\n%s", signal, delay, hidePasswords(got.stderr))
		}
	}
	if interrupted == 0 || changed == 0 {
		t.Errorf("%d runs were interrupted, and %d have changed the token: the delays are wrong", interrupted, changed)
	}
	t.Logf("%d of %d runs interrupted, %d have changed the token", interrupted, n, changed)
}

// TestAnInterruptThatIsIgnoredStaysSo starts a command as shells do in the
// background, and nohup and cron on a terminal.
func TestAnInterruptThatIsIgnoredStaysSo(t *testing.T) {
	requireTools(t, "sh")
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", `trap "" INT TERM HUP; exec "$0" inspect -`, binary)
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		time.Sleep(200 * time.Millisecond)
		if err := command.Process.Signal(signal); err != nil {
			t.Error(err)
		}
	}
	if _, err := io.WriteString(stdin, "abcdef.0123456789abcdef\n"); err != nil {
		t.Error(err)
	}
	_ = stdin.Close()
	if err := command.Wait(); err != nil {
		t.Errorf("it was ended: %v", err)
	}
}
