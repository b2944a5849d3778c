// Command picture draws docs/demo.svg, the terminal in README.md, from a real
// run of the plugin on a real K3s server: hack/update-picture.sh. With -verify
// it starts nothing: it looks whether the picture shows the commands below, and
// whether the plugin has them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/creack/pty"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// columns is the width of the terminal: enough for the table of list.
const columns = 124

// idWord stands in a command for the id of the token that the first one makes.
const idWord = "ID"

// shown are the commands of the picture, by their arguments.
func shown() [][]string {
	return [][]string{
		{"create", "--ttl", "2h", "--description", "rack 7"},
		{"list"},
		{"extend", idWord, "--ttl", "7d"},
		{"inspect", "--token-file", "node-token", "--ca-file", "server-ca.crt"},
		{"delete", idWord},
	}
}

func main() {
	verifyOnly := flag.Bool("verify", false, "check the picture instead of drawing it")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: picture [-verify] FILE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *verifyOnly {
		err = verify(flag.Arg(0))
	} else {
		err = update(ctx, flag.Arg(0))
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

// update draws the picture anew, and leaves the file alone where only what is
// different in each run has changed.
func update(ctx context.Context, file string) error {
	screen, err := record(ctx)
	if err != nil {
		return err
	}
	picture := draw(screen)
	if old, err := os.ReadFile(file); err == nil && masked(string(old)) == masked(picture) {
		return nil
	}
	return os.WriteFile(file, []byte(picture), 0o600)
}

// record runs the commands on a server of their own.
func record(ctx context.Context) (screen []step, err error) {
	root, err := k3stest.Root()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "k3t")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := k3stest.Start(ctx, k3stest.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()

	// What a person has copied from the server.
	token, err := server.ServerToken()
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(server.CAFile)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{"node-token": token + "\n", "server-ca.crt": string(bundle)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}

	terminal := &terminal{
		plugin: filepath.Join(root, "bin", "kubectl-k3s_token"),
		dir:    dir,
		env:    []string{"TERM=xterm-256color", "HOME=" + dir, "KUBECONFIG=" + server.Kubeconfig},
	}
	id := idWord
	for _, args := range shown() {
		args = withID(args, id)
		output, err := terminal.run(ctx, args)
		if err != nil {
			return nil, err
		}
		if made := bootstrapToken.FindStringSubmatch(output); made != nil && id == idWord {
			id = made[1]
		}
		screen = append(screen, step{command: commandLine(args), output: hideSecrets(output)})
	}
	return screen, nil
}

// step is a command and what it printed.
type step struct{ command, output string }

var (
	bootstrapToken = regexp.MustCompile(`::([a-z0-9]{6})\.([a-z0-9]{16})\b`)
	hash           = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	hashInToken    = regexp.MustCompile(`K10[0-9a-f]{64}::`)
	timestamp      = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	escapeSequence = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
)

// placeholder stands for each secret, and has its length.
var placeholder = strings.Repeat("x", 16)

func hideSecrets(text string) string {
	return bootstrapToken.ReplaceAllString(text, "::${1}."+placeholder)
}

// masked takes out of a picture what is different in each run.
func masked(picture string) string {
	token := bootstrapToken.FindStringSubmatch(picture)
	picture = hashInToken.ReplaceAllString(picture, "K10HASH::")
	picture = hash.ReplaceAllString(picture, "HASH")
	picture = timestamp.ReplaceAllString(picture, "TIME")
	if token != nil {
		picture = strings.ReplaceAll(picture, token[1], idWord)
	}
	return picture
}

func withID(args []string, id string) []string {
	replaced := make([]string, len(args))
	for i, arg := range args {
		replaced[i] = arg
		if arg == idWord {
			replaced[i] = id
		}
	}
	return replaced
}

// commandLine writes a command as a person types it.
func commandLine(args []string) string {
	line := cmd.Name
	for _, arg := range args {
		if strings.Contains(arg, " ") {
			arg = `"` + arg + `"`
		}
		line += " " + arg
	}
	return line
}

// terminal runs the plugin on a pseudo-terminal.
type terminal struct {
	plugin, dir string
	env         []string
}

func (t *terminal) run(ctx context.Context, args []string) (string, error) {
	command := exec.CommandContext(ctx, t.plugin, args...)
	command.Dir, command.Env = t.dir, t.env
	screen, err := pty.StartWithSize(command, &pty.Winsize{Rows: 40, Cols: columns})
	if err != nil {
		return "", err
	}
	defer screen.Close()
	// The read ends with an error when the command has closed the terminal.
	output, _ := io.ReadAll(screen)
	if err := command.Wait(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", commandLine(args), err, hideSecrets(string(output)))
	}
	text := strings.ReplaceAll(string(output), "\r\n", "\n")
	return strings.TrimRight(escapeSequence.ReplaceAllString(text, ""), "\n"), nil
}

// verify returns what is wrong with a picture.
func verify(file string) error {
	picture, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	token := bootstrapToken.FindStringSubmatch(string(picture))
	if token == nil {
		return fmt.Errorf("%s shows no token", file)
	}
	if token[2] != placeholder {
		return fmt.Errorf("%s shows a token's secret", file)
	}
	drawn := commandsIn(string(picture))
	for i, args := range shown() {
		args = withID(args, token[1])
		if i >= len(drawn) || drawn[i] != commandLine(args) {
			return fmt.Errorf("%s does not show %q", file, commandLine(args))
		}
		if err := exists(args); err != nil {
			return fmt.Errorf("%s: %w", commandLine(args), err)
		}
	}
	if len(drawn) > len(shown()) {
		return fmt.Errorf("%s shows %q, which is not in hack/picture", file, drawn[len(shown())])
	}
	return nil
}

// exists tells whether the plugin has the command and its flags.
func exists(args []string) error {
	root := cmd.NewCommand(&cmd.Env{IOStreams: genericiooptions.NewTestIOStreamsDiscard()})
	command, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if command == root {
		return errors.New("there is no such command")
	}
	return command.ParseFlags(rest)
}
