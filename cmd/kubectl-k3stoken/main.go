// Command kubectl-k3s_token is the kubectl plugin k3s-token: it manages K3s
// join tokens with nothing but a kubeconfig.
package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to log in that kubectl knows
	"k8s.io/klog/v2"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

// Set by the linker; see the Makefile.
var (
	version = "dev"
	commit  = ""
	date    = ""
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, cancel := interruptible()
	defer cancel()
	// A reader that goes away must not end the process before it has removed a
	// token that nobody has seen: the write fails instead.
	surviveBrokenPipes()
	// What the client library would write to stderr by itself; -v turns it on.
	klog.SetLogger(logr.Discard())
	return cmd.Run(ctx, os.Args, cmd.Env{
		IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
		OutIsLost: stdoutMayBeClosed(),
		Now:       time.Now,
		Random:    rand.Reader,
		Getenv:    os.Getenv,
		SystemCAs: x509.SystemCertPool,
		Build:     cmd.Build{Version: version, Commit: commit, Date: date},
	})
}

// echoes is for how long after a signal another one is taken for its echo: a
// shell and the kernel each tell of a terminal that is gone, and timeout tells a
// process and then its group.
const echoes = time.Second

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP (the
// terminal is gone) cancels, with cmd.Interrupted as the cause. A second SIGINT
// or SIGTERM, of somebody who does not want to wait, ends the process at once.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // as nohup has it, or a shell for what it starts in the background
			signal.Notify(signals, s)
		}
	}
	go func() {
		cancel(cmd.Interrupted{ExitCode: exitCode(<-signals)})
		first := time.Now()
		for again := range signals {
			if again != syscall.SIGHUP && time.Since(first) > echoes {
				os.Exit(exitCode(again))
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// exitCode is what a shell expects of a process that the signal ended.
func exitCode(s os.Signal) int {
	number, ok := s.(syscall.Signal)
	if !ok {
		number = syscall.SIGINT
	}
	return 128 + int(number)
}
