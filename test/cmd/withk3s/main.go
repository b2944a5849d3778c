// Command withk3s starts a K3s server on this machine, runs a command with it, and
// stops it. It is for the demo, the picture and the benchmark:
//
//	cd test && go run ./cmd/withk3s ../hack/demo/demo.sh
//
// The command finds the server by KUBECONFIG, K3S_URL and K3S_DATA_DIR, and the
// plugin and K3s on its PATH. If this machine can run nodes, there is a new machine
// beside the server. It runs the first line that is written to $NEW_MACHINE, such as
// an agent command of create.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
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
	options := k3stest.Options{Dir: filepath.Join(dir, "server")}
	machine, noMachine := makeMachine(filepath.Join(dir, "machine"))
	if noMachine != nil {
		fmt.Fprintf(os.Stderr, "No node can join it here: %v.\n", noMachine)
	} else {
		options.Host = machine.network.Host(1)
		defer func() { err = errors.Join(err, machine.close()) }()
	}
	server, err := k3stest.Start(ctx, options)
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
	if machine == nil {
		return command.Run()
	}
	return machine.runBeside(command)
}

// newMachine is a machine beside the server, on a network with it.
type newMachine struct {
	*k3stest.Machine
	network *k3stest.Network
}

// makeMachine makes one, and a network on which the server's options are to place it.
func makeMachine(dir string) (*newMachine, error) {
	if err := k3stest.NodeTools(); err != nil {
		return nil, err
	}
	network, err := k3stest.NewNetwork(2)
	if err != nil {
		return nil, err
	}
	machine, err := k3stest.NewMachine(k3stest.MachineOptions{Dir: dir, Host: network.Host(2), Name: "worker-7"})
	if err != nil {
		return nil, errors.Join(err, network.Close())
	}
	return &newMachine{machine, network}, nil
}

func (m *newMachine) close() error { return errors.Join(m.Stop(), m.network.Close()) }

// runBeside runs the command, and on the machine the first line that it writes to
// $NEW_MACHINE.
func (m *newMachine) runBeside(command *exec.Cmd) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	command.ExtraFiles = []*os.File{writer}
	command.Env = append(command.Env, "NEW_MACHINE=/dev/fd/3")
	err = command.Start()
	_ = writer.Close()
	if err != nil {
		return err
	}
	var pasted sync.WaitGroup
	pasted.Go(func() {
		if line, err := bufio.NewReader(reader).ReadString('\n'); err == nil {
			if err := m.Start(line); err != nil {
				fmt.Fprintln(os.Stderr, "withk3s:", err)
			}
		}
	})
	err = command.Wait()
	_ = reader.Close()
	pasted.Wait()
	return err
}
