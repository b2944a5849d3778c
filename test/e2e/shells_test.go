package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// bashCompletion is what kubectl's completion for bash is built on.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

// completingShell is a shell that completes what is typed.
type completingShell struct {
	name string
	args []string // that keep it from the files of the machine's user
	// setup is what a person has in those files; besides kubectl's completion,
	// a prompt to wait for, and Ctrl-G to show what the line holds.
	setup string
}

var completingShells = []completingShell{
	{"bash", []string{"--noprofile", "--norc", "-i"}, `
source ` + bashCompletion + `
source <(kubectl completion bash)
bind 'set show-all-if-ambiguous on'
bind 'set page-completions off'
bind -x '"\C-g": printf "\nline<%s>\n" "$READLINE_LINE"'
PS1='ready> '
`},
	{"zsh", []string{"-f", "-i"}, `
autoload -Uz compinit && compinit -u -D
source <(kubectl completion zsh)
show-line() { zle -I; print -r -- "line<$BUFFER>" }
zle -N show-line
setopt no_list_ambiguous
bindkey '^G' show-line
PROMPT='ready> '
`},
	{"fish", []string{"--no-config", "--interactive"}, `
kubectl completion fish | source
set -g fish_autosuggestion_enabled 0
function fish_prompt; echo -n 'ready> '; end
bind \cg 'echo; echo "line<"(commandline)">"; commandline -f repaint'
`},
}

// hostile is a description that steers a terminal or a shell, unless it is shown
// as harmless.
const (
	hostile      = "$(touch pwned)`touch pwned`;touch pwned\ntouch pwned\ttab \x1b]0;pwned\x07\x1b[38;5;199m \u202ereversed '\"\\ %s"
	hostileShown = "$(touch pwned)`touch pwned`;touch pwned\\ntouch pwned\\ttab \\u001b]0;pwned\\u0007\\u001b[38;5;199m \\u202ereversed '\"\\ %s"
)

// TestShellsComplete presses TAB in real shells, on a terminal.
func TestShellsComplete(t *testing.T) {
	for _, shell := range completingShells {
		t.Run(shell.name, func(t *testing.T) {
			shell.require(t)
			server := borrowServer(t, "k3s")
			for id, description := range map[string]string{"aaaaa1": "rack 7", "aaaaa2": "worker: two", "bbbbb1": ""} {
				createToken(t, server, id, description)
			}
			s := shell.start(t, server)

			s.types("kubectl k3s-to\t")
			s.wantsLine("kubectl k3s-token")
			s.types("kubectl k3s-token cr\t")
			s.wantsLine("kubectl k3s-token create")
			s.types("kubectl k3s-token \t")
			s.wants("extend", "Give bootstrap tokens another expiry")
			s.wantsLine("kubectl k3s-token")
			s.types("kubectl k3s-token list --sort-by \t")
			s.wants("expires", "")
			s.wants("description", "")
			s.wantsLine("kubectl k3s-token list --sort-by")
			s.types("kubectl k3s-token list --sort-by=ex\t")
			s.wantsLine("kubectl k3s-token list --sort-by=expires")

			s.types("kubectl k3s-token delete \t")
			s.wants("aaaaa1", "<forever>, rack 7")
			s.wants("aaaaa2", "<forever>, worker: two")
			s.wants("bbbbb1", "<forever>, <none>")
			s.wantsLine("kubectl k3s-token delete")
			s.types("kubectl k3s-token delete b\t")
			s.wantsLine("kubectl k3s-token delete bbbbb1")
			// What is named already is not offered again.
			s.types("kubectl k3s-token delete aaaaa1 \t")
			s.wants("bbbbb1", "<forever>, <none>")
			if shown := s.wantsLine("kubectl k3s-token delete aaaaa1"); regexp.MustCompile(`aaaaa1 +(--|\()`).MatchString(shown) {
				t.Errorf("aaaaa1 is offered a second time:\n%s", shown)
			}
			s.types("kubectl k3s-token delete aaaaa1 a\t")
			s.wantsLine("kubectl k3s-token delete aaaaa1 aaaaa2")

			createToken(t, server, "eeeee1", hostile)
			createToken(t, server, "eeeee2", "harmless")
			s.types("kubectl k3s-token delete e\t")
			s.wants("eeeee1", "<forever>, "+shell.shows(hostileShown))
			s.wants("eeeee2", "<forever>, harmless")
			s.wantsLine("kubectl k3s-token delete eeeee")
			s.types("kubectl k3s-token delete eeeee1\t\t")
			s.wantsLine("kubectl k3s-token delete eeeee1")
			s.types("echo al''ive\r")
			s.await(regexp.MustCompile(`(?m)^alive`))
			for _, raw := range []string{"\x1b]0;pwned", "\x1b[38;5;199m", "\u202e"} {
				if strings.Contains(s.raw(), raw) {
					t.Errorf("the terminal got %q of a description", raw)
				}
			}
			if _, err := os.Stat(filepath.Join(s.dir, "pwned")); err == nil {
				t.Error("the shell has run what a description says")
			}
		})
	}
}

// shows is how the shell shows a description: zsh takes backslashes for its own.
func (shell completingShell) shows(description string) string {
	if shell.name == "zsh" {
		return strings.ReplaceAll(description, `\`, "")
	}
	return description
}

// require skips the test on a developer's machine without the shell, and fails
// it where all tests are meant to run.
func (shell completingShell) require(t *testing.T) {
	t.Helper()
	requireTools(t, shell.name, "kubectl")
	if _, err := os.Stat(bashCompletion); err != nil && shell.name == "bash" {
		missing(t, "it needs the package bash-completion: %v", err)
	}
}

// createToken makes a token whose secret matters to nobody.
func createToken(t *testing.T, server *k3stest.Server, id, description string) {
	t.Helper()
	secret, err := json.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata":   map[string]any{"name": secretPrefix + id},
		"type":       "bootstrap.kubernetes.io/token",
		"stringData": map[string]any{
			"token-id":                       id,
			"token-secret":                   "0123456789abcdef",
			"description":                    description,
			"usage-bootstrap-authentication": "true",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(server, http.MethodPost, secretsPath, "application/json", secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		path := secretsPath + "/" + url.PathEscape(secretPrefix+id)
		if _, err := call(server, http.MethodDelete, path, "", nil); err != nil {
			t.Error(err)
		}
	})
}

// session is a shell that runs on a terminal.
type session struct {
	t      *testing.T
	dir    string
	screen *os.File

	mu    sync.Mutex
	all   bytes.Buffer // what the terminal got
	since int          // the part of it that no earlier line has answered
}

// start starts the shell with kubectl's completion and, on its PATH, the plugin
// with the program that completes it.
func (shell completingShell) start(t *testing.T, server *k3stest.Server) *session {
	t.Helper()
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, dir: t.TempDir()}
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	shim, err := exec.CommandContext(t.Context(), binary, "completion").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "kubectl_complete-k3s_token"), shim, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "setup"), []byte(shell.setup), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), shell.name, shell.args...)
	command.Dir = s.dir
	command.Env = []string{
		"PATH=" + strings.Join([]string{bin, filepath.Dir(binary), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"HOME=" + s.dir, "ZDOTDIR=" + s.dir,
		"XDG_CONFIG_HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir, "XDG_CACHE_HOME=" + s.dir, "XDG_RUNTIME_DIR=" + s.dir,
		"KUBECONFIG=" + server.Kubeconfig,
		"TERM=xterm", "LC_ALL=C.UTF-8",
	}
	// Wide enough for a description on one line.
	if s.screen, err = pty.StartWithSize(command, &pty.Winsize{Rows: 60, Cols: 240}); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := s.screen.Read(b)
			s.mu.Lock()
			s.all.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		_ = s.screen.Close()
		reading.Wait()
	})
	s.types("source ./setup\r")
	s.await(regexp.MustCompile(`ready> `))
	s.forget()
	return s
}

func (s *session) types(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.screen, keys); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) raw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// steering is what moves the cursor, colours the text, or names the window.
var steering = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()][0-9A-Z]|\x1b[=>78]|[\x07\x0e\x0f]`)

// shown is the text that the terminal got since the last line was begun.
func (s *session) shown() string {
	return strings.ReplaceAll(steering.ReplaceAllString(s.raw()[s.since:], ""), "\r", "\n")
}

// await waits until the terminal shows something.
func (s *session) await(pattern *regexp.Regexp) {
	s.t.Helper()
	if !s.showsWithin(30*time.Second, pattern) {
		s.t.Fatalf("the terminal does not show %s, but:\n%s", pattern, s.shown())
	}
}

func (s *session) showsWithin(bound time.Duration, pattern *regexp.Regexp) bool {
	for deadline := time.Now().Add(bound); !pattern.MatchString(s.shown()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// forget has the tests look at what is shown from now on alone.
func (s *session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = s.all.Len()
}

// next leaves the line with Ctrl-C and begins a new one. A shell that is still
// busy may lose the key.
func (s *session) next() {
	s.t.Helper()
	s.forget()
	prompt := regexp.MustCompile(`ready> `)
	for range 3 {
		s.types("\x03")
		if s.showsWithin(5*time.Second, prompt) {
			s.forget()
			return
		}
	}
	s.t.Fatalf("the shell shows no prompt after Ctrl-C, but:\n%s", s.shown())
}

// offer matches a word with its description, as one of the shells shows it.
func offer(word, description string) *regexp.Regexp {
	pattern := `(?m)(^| )` + regexp.QuoteMeta(word) + ` +`
	if description != "" {
		pattern += `(-- ` + regexp.QuoteMeta(description) + `|\(` + regexp.QuoteMeta(description) + `\))`
	}
	return regexp.MustCompile(pattern)
}

// wants waits until a word is offered with its description.
func (s *session) wants(word, description string) {
	s.t.Helper()
	s.await(offer(word, description))
}

// wantsLine has the shell show the line as it is now, returns all that was shown
// for it, and begins a new one.
func (s *session) wantsLine(line string) string {
	s.t.Helper()
	s.types("\x07")
	// Until it is ready again, a shell may take Ctrl-C for what it runs.
	s.await(regexp.MustCompile(`(?s)line<[^>\n]*>.*ready> `))
	shown := s.shown()
	got := regexp.MustCompile(`line<([^>\n]*)>`).FindStringSubmatch(shown)[1]
	if strings.TrimSpace(got) != line {
		s.t.Errorf("the line is %q, want %q; the terminal shows:\n%s", got, line, shown)
	}
	s.next()
	return shown
}
