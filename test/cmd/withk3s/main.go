// Command withk3s runs a command with a K3s server that it starts on this
// machine and stops again, for the demo, the picture and the benchmark:
//
//	cd test && go run ./cmd/withk3s ../hack/demo/demo.sh
//
// The command finds the server by KUBECONFIG, K3S_URL and K3S_DATA_DIR, and the
// plugin and K3s on its PATH.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

func main() {
	// The command gets a terminal's Ctrl-C as well, and ends by it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "withk3s:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) == 0 {
		return errors.New("usage: withk3s COMMAND [ARGUMENT]")
	}
	root, err := k3stest.Root()
	if err != nil {
		return err
	}
	k3s, err := k3stest.Binary("k3s")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "k3t")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(os.Stderr, "Starting a K3s server on this machine, which takes some seconds ...")
	server, err := k3stest.Start(ctx, k3stest.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	fmt.Fprintf(os.Stderr, "K3s %s is up at %s.\n\n", server.Version, server.URL)
	command := exec.Command(args[0], args[1:]...) //nolint:noctx // it ends by the signal itself
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(),
		"PATH="+strings.Join([]string{filepath.Join(root, "bin"), filepath.Dir(k3s), os.Getenv("PATH")}, ":"),
		"KUBECONFIG="+server.Kubeconfig, "K3S_URL="+server.SupervisorURL, "K3S_DATA_DIR="+server.DataDir)
	return command.Run()
}
