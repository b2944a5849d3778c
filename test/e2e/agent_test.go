package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// lab is a K3s server on a network with places for machines that join it.
type lab struct {
	*k3stest.Server
	network *k3stest.Network
	places  chan *k3stest.Host
}

// startLab starts a server on the first host of a network that has as many places
// for machines.
func startLab(t *testing.T, places int, options k3stest.Options) *lab {
	t.Helper()
	if err := k3stest.NodeTools(); err != nil {
		missing(t, "no real nodes: %v", err)
	}
	network, err := k3stest.NewNetwork(1 + places)
	if err != nil {
		missing(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	options.Host = network.Host(1)
	l := &lab{Server: startOwn(t, options), network: network, places: make(chan *k3stest.Host, places)}
	for i := range places {
		l.places <- network.Host(2 + i)
	}
	return l
}

// machine makes a machine on the next free place, for as long as the test runs.
func (l *lab) machine(t *testing.T, options k3stest.MachineOptions) *k3stest.Machine {
	t.Helper()
	options.Host = <-l.places
	t.Cleanup(func() { l.places <- options.Host })
	dir, err := os.MkdirTemp(work, "") //nolint:usetesting // the test's name makes the paths of sockets too long
	if err != nil {
		t.Fatal(err)
	}
	options.Dir = dir
	if options.Name == "" {
		// A cluster refuses the node password of another machine of the same name.
		options.Name = "node-" + filepath.Base(dir)
	}
	machine, err := k3stest.NewMachine(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := machine.Stop(); err != nil {
			t.Error(err)
		}
	})
	return machine
}

// ready fails the test unless the machine's node gets Ready.
func (l *lab) ready(t *testing.T, machine *k3stest.Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.AwaitNode(ctx, machine.Name); err != nil {
		t.Fatalf("%v; end of the agent's log:\n%s", err, redact(tail(machine.Log())))
	}
}

// joins fails the test unless the outcome of an agent's attempt to join with the
// token is the wanted one.
func (l *lab) joins(t *testing.T, token string, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	machine := l.machine(t, k3stest.MachineOptions{NoRuntime: true})
	verdict, err := machine.JudgeAgent(ctx, l.SupervisorURL, token)
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Joins != want {
		t.Errorf("the agent joins: %v, want %v; it says %q", verdict.Joins, want, verdict.Words)
	}
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

// TestAgentsJoin has real agents join with the output of create, and only for as long
// as they should.
func TestAgentsJoin(t *testing.T) {
	t.Parallel()
	lab := startLab(t, 4, k3stest.Options{})
	lab.testWaits(t)
	create := func(t *testing.T, args ...string) string {
		t.Helper()
		return strings.TrimSpace(mustRun(t, lab.Server, append([]string{"create"}, args...)...))
	}
	t.Run("a token", func(t *testing.T) {
		t.Parallel()
		lab.joins(t, create(t), true)
	})
	t.Run("the last of several tokens", func(t *testing.T) {
		t.Parallel()
		lab.joins(t, strings.Fields(create(t, "--count", "3"))[2], true)
	})
	t.Run("the agent command, and again without its token, but not as a new node", func(t *testing.T) {
		t.Parallel()
		testComesBack(t, lab, create(t, "--print-join-command=agent"))
	})
	t.Run("not a deleted token", func(t *testing.T) {
		t.Parallel()
		token := create(t)
		mustRun(t, lab.Server, "delete", token)
		lab.joins(t, token, false)
	})
	t.Run("not a token whose ttl is over", func(t *testing.T) {
		t.Parallel()
		token := create(t, "--ttl", "1s")
		id := strings.Split(token[strings.Index(token, "::")+2:], ".")[0]
		awaitTrue(t, "the token expires", func() bool { _, there := storedTokens(t, lab.Server)[id]; return !there })
		lab.joins(t, token, false)
	})
}

// testComesBack has an agent join with a command and start again after its token was
// deleted. After its node was deleted too, the token is asked for, and refused.
func testComesBack(t *testing.T, lab *lab, command string) {
	machine := lab.machine(t, k3stest.MachineOptions{})
	start := func() {
		t.Helper()
		if err := machine.Start(command); err != nil {
			t.Fatal(err)
		}
	}
	start()
	lab.ready(t, machine)

	if err := machine.Stop(); err != nil {
		t.Fatal(err)
	}
	_, words, _ := strings.Cut(command, "::")
	token := words[:len("abcdef.0123456789abcdef")]
	mustRun(t, lab.Server, "delete", token)
	// The server goes on taking a token that it has just seen for some 10 seconds.
	awaitTrue(t, "the token is refused", func() bool {
		status, err := lab.Supervisor(t.Context(), k3stest.TokenCredentials(token), http.MethodGet, lab.ReadyPath())
		return err == nil && status == http.StatusUnauthorized
	})
	// No controller of this server notices that a node is gone.
	notReady := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q}]}}`, corev1.NodeReady, corev1.ConditionFalse)
	if _, err := lab.Core.Nodes().PatchStatus(t.Context(), machine.Name, []byte(notReady)); err != nil {
		t.Fatal(err)
	}
	start()
	lab.ready(t, machine)

	if err := machine.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := lab.Core.Nodes().Delete(t.Context(), machine.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	start()
	awaitTrue(t, "the agent is refused", func() bool { return strings.Contains(machine.Log(), "401 Unauthorized") })
}
