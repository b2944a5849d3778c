// Command kubectl-k3s_token is the kubectl plugin k3s-token: it manages K3s
// join tokens with nothing but a kubeconfig.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to log in that kubectl knows

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

// Set by the linker; see the Makefile.
var version, commit, date string

func main() {
	os.Exit(run())
}

func run() int {
	// A reader that goes away must not end the process before it has removed a
	// token that nobody has seen: the write fails instead.
	signal.Ignore(syscall.SIGPIPE)
	ctx := signalContext()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	build := v1alpha1.ClientVersion{Version: version, Commit: commit, Date: date}
	if info, ok := debug.ReadBuildInfo(); ok && version == "" { // after "go install"
		build.Version = info.Main.Version
	}
	err := cmd.Run(ctx, os.Args, streams, build)
	var interrupt interrupted
	switch {
	case err == nil:
		return 0
	case errors.As(context.Cause(ctx), &interrupt):
		return 128 + int(interrupt) // as shells have it
	}
	return 1
}

// interrupted is the cause of a context that a signal has cancelled.
type interrupted syscall.Signal

func (interrupted) Error() string        { return "interrupted" }
func (interrupted) Is(target error) bool { return target == context.Canceled }

// secondSignal is how long after the first signal another one counts. timeout(1) sends
// each twice: to the process and to its group.
const secondSignal = 200 * time.Millisecond

// signalContext returns a context that the first signal cancels. The second one
// ends the process at once. A signal that the parent ignores, as nohup does,
// stays ignored.
func signalContext() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		first := <-signals
		cancel(interrupted(first.(syscall.Signal)))
		time.Sleep(secondSignal)
		signal.Stop(signals)
	}()
	return ctx
}
