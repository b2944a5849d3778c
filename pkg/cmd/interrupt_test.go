package cmd_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

// promptly fails the test where a command does not end soon after an interrupt
// that comes while it waits.
func promptly(t *testing.T, c call) outcome {
	t.Helper()
	ctx, interrupt := interruptible(t)
	c.ctx = ctx
	if stuck, ok := c.stdout.(blockedWriter); ok {
		stuck.reached = interrupt
		c.stdout = stuck
	} else {
		time.AfterFunc(100*time.Millisecond, interrupt)
	}
	start := time.Now()
	got := c.run(t)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%v: it took %v to end", c.args, took)
	}
	if got.code != 130 || !strings.Contains(got.stderr, "interrupted") {
		t.Errorf("%v: exit code %d, stderr %q", c.args, got.code, mask(got.stderr))
	}
	return got
}

// silentPipe is a standard input that says nothing until the test is over.
func silentPipe(t *testing.T) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	return r
}

func TestAnInterruptEndsTheWaitForInput(t *testing.T) {
	for _, args := range [][]string{
		{"create", "-"}, {"delete", "-"}, {"extend", "-", "--ttl", "1h"}, {"inspect", "-"}, {"verify", "-"},
		{"rotate", "--yes", "-t", "-"}, {"rotate", "--yes", "-t", "given", "--new-token", "-"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			if got := promptly(t, call{cluster: c, in: silentPipe(t), args: args}); got.out != "" {
				t.Errorf("it prints %q", mask(got.out))
			}
			if requests := c.Requests(); len(requests) > 0 {
				t.Errorf("requests %v", requests)
			}
		})
	}
}

// blockedWriter is a reader that does not read, until the test is over.
type blockedWriter struct {
	over    context.Context
	reached func()
}

func (w blockedWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.reached()
	<-w.over.Done()
	return 0, io.ErrClosedPipe
}

func TestAnInterruptEndsTheWaitForTheReader(t *testing.T) {
	over, end := context.WithCancel(context.Background()) // it outlives this function
	t.Cleanup(end)
	for _, args := range [][]string{
		{"list"}, {"list", "-o", "json"}, {"generate"}, {"inspect", given}, {"version"}, {"completion"}, {"delete", "abcdef"}, {"extend", "abcdef", "--ttl", "1h"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.put("abcdef", nil)
			promptly(t, call{cluster: c, stdout: blockedWriter{over: over}, args: args})
		})
	}
}

// A token that a stuck reader has not taken is not delivered.
func TestAnInterruptOfAStuckDeliveryRemovesTheTokens(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	c := newCluster(t)
	got := promptly(t, call{cluster: c, stdout: blockedWriter{over: over}, args: []string{"create", "--count", "40"}})
	if !strings.Contains(got.stderr, "no token was left in the cluster that you have not seen") {
		t.Errorf("stderr %q", got.stderr)
	}
	c.holds(t)
	if writes := c.Writes(); len(writes) != 80 {
		t.Errorf("%d writes, want 40 tokens made and removed", len(writes))
	}
}

func TestAnInterruptEndsTheWaitForALoginProgram(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	waiting := writeFile(t, "waiting", "") // the program runs for as long as the test's folder is there
	config, err := clientcmd.LoadFromFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		Command: "sh", Args: []string{"-c", `while [ -e "$0" ]; do sleep 0.05; done`, waiting},
	}}
	if err := clientcmd.WriteToFile(*config, c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	t.Cleanup(func() {
		if requests := c.Requests(); len(requests) > 0 {
			t.Errorf("requests %v", requests)
		}
		isEmpty(t, filepath.Dir(file))
	})
	for _, args := range [][]string{
		{"list"}, {"create", given}, {"create", given, "--token-format", "short", "--groups", defaultGroup, "--ttl", "0", "--output-file", file},
		{"extend", "abcdef", "--ttl", "1h"}, {"delete", "abcdef"}, {"delete", "--all", "--yes"}, {"version"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			promptly(t, call{cluster: c, args: args})
		})
	}
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in %s: %v (%v)", dir, entries, err)
	}
}

// What is being undone is brought to an end, however long it takes.
func TestAnInterruptWaitsForTheUndo(t *testing.T) {
	c := newCluster(t)
	ctx, interrupt := interruptible(t)
	c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		switch req.Method {
		case http.MethodPost:
			interrupt()
		case http.MethodDelete:
			time.Sleep(1200 * time.Millisecond)
		}
		return false
	})
	got := call{cluster: c, ctx: ctx, args: []string{"create", given}}.run(t)
	got.wants(t, 130, "", "no token was left in the cluster")
	c.holds(t)
}

// A context that ends without a signal is not taken for one.
func TestACancelledContextIsNoInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	got := call{cluster: newCluster(t), ctx: ctx, args: []string{"list"}}.run(t)
	if got.code != 1 {
		t.Errorf("exit code %d", got.code)
	}
	if (cmd.Interrupted{ExitCode: 130}).Error() != "interrupted" {
		t.Error("an interrupt is called otherwise")
	}
}
