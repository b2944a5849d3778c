// Command withk3s starts a K3s server on this machine, runs a command with it, and
// stops it. It is for the demo, the picture and the benchmark:
//
//	cd test && go run ./cmd/withk3s ../hack/demo/demo.sh
//
// The command finds the server by KUBECONFIG, K3S_URL and K3S_DATA_DIR, and the
// plugin, K3s and kubectl on its PATH. If this machine can run nodes, there is a new machine
// beside the server. It runs the first line that is written to $NEW_MACHINE, such as
// an agent command of create.
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

func run(ctx context.Context, args []string) error {
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
	defer os.RemoveAll(dir) //nolint:errcheck // a folder for temporary files
	fmt.Fprintln(os.Stderr, "Starting a K3s server on this machine, which takes some seconds ...")
	options := k3stest.Options{Dir: filepath.Join(dir, "server")}
	if err := k3stest.Kubectl(dir); err != nil { // for a machine that has none
		return err
	}
	command := exec.Command(args[0], args[1:]...) //nolint:noctx // it ends by the signal itself
	command.Env = append(os.Environ(),
		"PATH="+strings.Join([]string{filepath.Join(root, "bin"), filepath.Dir(k3s), os.Getenv("PATH"), dir}, ":"))
	if err := k3stest.NodeTools(); err != nil {
		fmt.Fprintf(os.Stderr, "No node can join it here: %v.\n", err)
	} else {
		network, err := k3stest.NewNetwork(2)
		if err != nil {
			return err
		}
		defer network.Close()
		options.Host = network.Host(1)
		machineDir := filepath.Join(dir, "machine")
		machine, err := startMachine(machineDir, network.Host(2))
		if err != nil {
			return err
		}
		defer machine.Stop()
		command.Env = append(command.Env, "NEW_MACHINE="+filepath.Join(machineDir, "pasted"))
	}
	server, err := k3stest.Start(ctx, options)
	if err != nil {
		return err
	}
	defer server.Stop()
	fmt.Fprintf(os.Stderr, "K3s %s is up at %s.\n\n", server.Version, server.URL)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(command.Env,
		"KUBECONFIG="+server.Kubeconfig, "K3S_URL="+server.SupervisorURL, "K3S_DATA_DIR="+server.DataDir)
	return command.Run()
}

// startMachine starts a machine that waits for a line in its file "pasted", and runs it.
func startMachine(dir string, host *k3stest.Host) (*k3stest.Machine, error) {
	machine, err := k3stest.NewMachine(k3stest.MachineOptions{Dir: dir, Host: host, Name: "worker-7"})
	if err != nil {
		return nil, err
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pasted"), 0o600); err != nil {
		return nil, err
	}
	return machine, machine.Start(`exec 3<pasted; read -r line <&3; eval "$line"`)
}
