// Command demo shows the plugin's main job on a real K3s server that it starts
// on this machine and stops again: `make demo`.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

func main() {
	keep := flag.Bool("keep", false, "leave the server running until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Stderr, *keep)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run starts the server, shows the commands and cleans up.
func run(ctx context.Context, stdout, stderr io.Writer, keep bool) (err error) {
	root, err := k3stest.Root()
	if err != nil {
		return err
	}
	plugin := filepath.Join(root, "bin", "kubectl-k3s_token")
	if _, err := os.Stat(plugin); err != nil {
		return fmt.Errorf("the plugin is not built: run `make build`: %w", err)
	}
	dir, err := os.MkdirTemp("", "k3t")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	fmt.Fprintln(stderr, "Starting a K3s server on this machine, which takes some seconds ...")
	server, err := k3stest.Start(ctx, k3stest.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	fmt.Fprintf(stderr, "K3s %s is up at %s.\n\n", server.Version, server.URL)

	shell := &shell{stdout: stdout, stderr: stderr, command: []string{plugin}, prompt: "kubectl-k3s_token"}
	shell.env = append(os.Environ(), "KUBECONFIG="+server.Kubeconfig)
	// Where there is a kubectl, show that it finds the plugin.
	if kubectl, err := exec.LookPath("kubectl"); err == nil {
		shell.command, shell.prompt = []string{kubectl, "k3s-token"}, "kubectl k3s-token"
		shell.env = append(shell.env, "PATH="+filepath.Dir(plugin)+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	if err := mainJob(ctx, shell); err != nil {
		return err
	}
	if keep {
		fmt.Fprintf(stderr, "The server runs until you press Ctrl-C. In another terminal:\n\n  export KUBECONFIG=%s PATH=%s:$PATH\n\n",
			server.Kubeconfig, filepath.Dir(plugin))
		<-ctx.Done()
	}
	return nil
}

// mainJob is what somebody does who lets a machine join the cluster.
func mainJob(ctx context.Context, shell *shell) error {
	token, err := shell.run(ctx, "create", "--ttl", "2h", "--description", "for worker-7")
	if err != nil {
		return err
	}
	if _, err := shell.run(ctx, "list"); err != nil {
		return err
	}
	if _, err := shell.run(ctx, "list", "-o", "yaml"); err != nil {
		return err
	}
	id, err := tokenID(token)
	if err != nil {
		return err
	}
	if _, err := shell.run(ctx, "delete", id); err != nil {
		return err
	}
	_, err = shell.run(ctx, "list")
	return err
}

// tokenID is the public part of what create printed.
func tokenID(token string) (string, error) {
	_, credentials, secure := strings.Cut(strings.TrimSpace(token), "::")
	id, _, ok := strings.Cut(credentials, ".")
	if !secure || !ok {
		return "", errors.New("create did not print a token in secure format")
	}
	return id, nil
}

// shell runs the plugin and shows what a terminal would show.
type shell struct {
	stdout, stderr io.Writer
	command        []string
	prompt         string
	env            []string
}

// run shows and runs one command, and returns what it printed.
func (s *shell) run(ctx context.Context, args ...string) (string, error) {
	shown := make([]string, len(args))
	for i, arg := range args {
		shown[i] = arg
		if strings.ContainsRune(arg, ' ') {
			shown[i] = "'" + arg + "'"
		}
	}
	fmt.Fprintf(s.stdout, "$ %s %s\n", s.prompt, strings.Join(shown, " "))
	var printed bytes.Buffer
	command := exec.CommandContext(ctx, s.command[0], append(s.command[1:len(s.command):len(s.command)], args...)...)
	command.Env = s.env
	command.Stdout = io.MultiWriter(s.stdout, &printed)
	command.Stderr = s.stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w", s.prompt, args[0], err)
	}
	fmt.Fprintln(s.stdout)
	return printed.String(), nil
}
