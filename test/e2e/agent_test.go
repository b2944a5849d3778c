package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

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
		missing(t, err)
	}
	network := newNetwork(t, 1+places)
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
	options.Dir = shortDir(t)
	if options.Name == "" {
		// A cluster refuses the node password of another machine of the same name.
		options.Name = "node-" + filepath.Base(options.Dir)
	}
	machine, err := k3stest.NewMachine(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		machine.Stop()
		if t.Failed() {
			log := machine.Log()
			t.Logf("end of the machine's log:\n%s", redact(log[max(0, len(log)-2000):]))
		}
	})
	return machine
}

// start has the machine run the command.
func start(t *testing.T, machine *k3stest.Machine, command string) {
	t.Helper()
	if err := machine.Start(command); err != nil {
		t.Fatal(err)
	}
}

// awaitReady waits until a node is Ready.
func (l *lab) awaitReady(t *testing.T, name string) {
	t.Helper()
	ready := func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	awaitTrue(t, name+" is Ready", func() bool {
		node, err := l.Core.Nodes().Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(node.Status.Conditions, ready)
	})
}

// TestAgentsJoin has real agents join with the output of create, and only for as long
// as they should.
func TestAgentsJoin(t *testing.T) {
	t.Parallel()
	lab := startLab(t, 4, k3stest.Options{})
	lab.testWaits(t)
	t.Run("again without its token, but not as a new node", func(t *testing.T) {
		t.Parallel()
		lab.testComesBack(t)
	})
}

// testComesBack has an agent join, and start again after its token was deleted. After
// its node was deleted too, the token is asked for, and refused.
func (l *lab) testComesBack(t *testing.T) {
	t.Helper()
	const name = "comes-back"
	command := mustRun(t, l.Server, "create", "--print-join-command=agent")
	machine := l.launch(t, k3stest.MachineOptions{Name: name}, command)
	l.awaitReady(t, name)

	machine.Stop()
	_, words, _ := strings.Cut(command, "::")
	token := words[:len("abcdef.0123456789abcdef")]
	mustRun(t, l.Server, "delete", token)
	// The server goes on taking a token that it has just seen for some 10 seconds.
	awaitTrue(t, "the token is refused", func() bool {
		accepted, err := l.Accepts(t.Context(), token)
		return err == nil && !accepted
	})
	// No controller of this server notices that a node is gone.
	notReady := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q}]}}`, corev1.NodeReady, corev1.ConditionFalse)
	if _, err := l.Core.Nodes().PatchStatus(t.Context(), name, []byte(notReady)); err != nil {
		t.Fatal(err)
	}
	start(t, machine, command)
	l.awaitReady(t, name)

	machine.Stop()
	if err := l.Core.Nodes().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	start(t, machine, command)
	awaitTrue(t, "the agent is refused", func() bool { return strings.Contains(machine.Log(), "401 Unauthorized") })
}

// beginWait begins a create --wait, and returns once the tokens are out and the wait has
// begun.
func (l *lab) beginWait(t *testing.T, args ...string) *run {
	t.Helper()
	r := newRun(t, l.Kubeconfig, append([]string{"create"}, args...)...).begin()
	r.await("waiting up to ")
	return r
}

// await waits until the run has said a text on standard error.
func (r *run) await(text string) {
	r.t.Helper()
	awaitTrue(r.t, "it says "+text, func() bool { return strings.Contains(r.read("stderr"), text) })
}

// installs are shell functions in place of programs. The install script of K3s runs
// the agent, without a download, and that of RKE2 leaves it to systemctl.
const installs = `curl() { echo '[ $# = 0 ] || k3s "$@"'; }; systemctl() { rke2 agent; }; `

// follow returns a machine's config.yaml and its command, from the output of create in
// a format.
func (l *lab) follow(t *testing.T, format, printed string) (config, command string) {
	t.Helper()
	switch format {
	case "config":
		return printed, l.Program + " agent"
	case "env":
		return "", "set -a\n" + printed + l.Program + " agent"
	case "cloud-init":
		var data struct {
			Files    []struct{ Content string } `json:"write_files"`
			Commands []string                   `json:"runcmd"`
		}
		if err := yaml.Unmarshal([]byte(printed), &data); err != nil || len(data.Files) != 1 || len(data.Commands) != 1 {
			t.Fatalf("user data %+v (%v)", data, err)
		}
		return data.Files[0].Content, installs + data.Commands[0]
	}
	return "", installs + printed
}

// launch makes a machine that runs the command.
func (l *lab) launch(t *testing.T, options k3stest.MachineOptions, command string) *k3stest.Machine {
	t.Helper()
	machine := l.machine(t, options)
	start(t, machine, command)
	return machine
}

// testWaits has agents join with the output of create, and others that do not get that
// far. No other machine may join before it returns.
func (l *lab) testWaits(t *testing.T) {
	t.Run("three at once", func(t *testing.T) {
		wait := l.beginWait(t, "--wait", "--count", "3", "--print-join-command=agent")
		for i, command := range strings.Split(strings.TrimSpace(wait.read("stdout")), "\n") {
			l.launch(t, k3stest.MachineOptions{Name: fmt.Sprintf("one-of-three-%d", i)}, command)
		}
		wait.wants(0, "joined: one-of-three-0 one-of-three-1 one-of-three-2\n")
	})
	l.testFormats(t)
	t.Run("never Ready", func(t *testing.T) {
		t.Parallel()
		wait := l.beginWait(t, "--wait=never-ready", "--print-join-command=agent")
		l.launch(t, k3stest.MachineOptions{Name: "never-ready", NoCNI: true}, wait.read("stdout"))
		wait.await(`node "never-ready": registered`)
		wait.signal(os.Interrupt)
		wait.wants(130, `node "never-ready": registered, not Ready: `)
	})
	t.Run("never comes", func(t *testing.T) {
		t.Parallel()
		wait := l.beginWait(t, "--wait=never-comes", "--print-join-command=agent")
		machine := l.launch(t, k3stest.MachineOptions{Name: "never-comes"}, "k3s agent --server "+l.SupervisorURL+" --token half-typed")
		awaitTrue(t, "the agent is refused", func() bool { return strings.Contains(machine.Log(), "not authorized") })
		wait.signal(os.Interrupt)
		wait.wants(130, "1 token left in the cluster: ")
	})
}

func TestAgentsOfRKE2Join(t *testing.T) {
	t.Parallel()
	// Its API server has a port of its own, at which it has to reach itself.
	options := k3stest.Options{Program: "rke2", Args: []string{"--kube-apiserver-arg", "bind-address=0.0.0.0"}}
	startLab(t, 2, options).testFormats(t)
}

func (l *lab) testFormats(t *testing.T) {
	for _, format := range []string{"install", "agent", "config", "env", "cloud-init"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			l.testFormat(t, format)
		})
	}
}

// testFormat has an agent join with a format. The node is as the flags want it, and the
// token is for one use.
func (l *lab) testFormat(t *testing.T, format string) {
	t.Helper()
	name := "by-" + format
	args := []string{"--wait=" + name, "--delete-after-join", "--print-join-command=" + format, "--node-name", name}
	if format != "env" { // which has no place for them
		args = append(args, "--node-label", "rack=7", "--node-taint", "gpu=true:NoSchedule")
	}
	wait := l.beginWait(t, args...)
	config, command := l.follow(t, format, wait.read("stdout"))
	l.launch(t, k3stest.MachineOptions{Program: l.Program, Config: config}, command)
	wait.wants(0, "joined: "+name+"\ndeleted: ")
	node, err := l.Core.Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gpu := corev1.Taint{Key: "gpu", Value: "true", Effect: corev1.TaintEffectNoSchedule}
	if format != "env" && (node.Labels["rack"] != "7" || !slices.Contains(node.Spec.Taints, gpu)) {
		t.Errorf("labels %v, taints %v", node.Labels, node.Spec.Taints)
	}
}
