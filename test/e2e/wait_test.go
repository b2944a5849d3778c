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

// waitingRun is a run of create --wait, whose files "out" and "progress" can be read
// while it waits.
type waitingRun struct{ *run }

// beginWait returns once the tokens are out and the wait has begun.
func (l *lab) beginWait(t *testing.T, args ...string) waitingRun {
	t.Helper()
	w := waitingRun{newRun(t, l.Kubeconfig, append([]string{"create", "--output-file", "out"}, args...)...)}
	progress, err := os.Create(filepath.Join(w.Dir, "progress"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = progress.Close() })
	w.Stderr = progress
	w.begin()
	w.await("waiting up to ")
	return w
}

// await waits until the run has said a text.
func (w waitingRun) await(text string) {
	w.t.Helper()
	awaitTrue(w.t, "it says "+text, func() bool { return strings.Contains(w.read("progress"), text) })
}

func (w waitingRun) read(file string) string {
	w.t.Helper()
	content, err := os.ReadFile(filepath.Join(w.Dir, file))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(content)
}

// wants fails the test unless the run ends with that exit code, and has said the text.
func (w waitingRun) wants(exitCode int, text string) {
	w.t.Helper()
	got := w.end()
	if progress := w.read("progress"); got.exitCode != exitCode || !strings.Contains(progress, text) {
		w.t.Errorf("exit code %d, want %d and %q:\n%s", got.exitCode, exitCode, text, redact(progress))
	}
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
	if err := machine.Start(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the machine's log:\n%s", redact(tail(machine.Log())))
		}
	})
	return machine
}

// testWaits has agents join with the output of create, and others that do not get that
// far. No other machine may join before it returns.
func (l *lab) testWaits(t *testing.T) {
	t.Run("three at once", func(t *testing.T) {
		wait := l.beginWait(t, "--wait", "--count", "3", "--print-join-command=agent")
		for i, command := range strings.Split(strings.TrimSpace(wait.read("out")), "\n") {
			l.launch(t, k3stest.MachineOptions{Name: fmt.Sprintf("one-of-three-%d", i)}, command)
		}
		wait.wants(0, "joined: one-of-three-0 one-of-three-1 one-of-three-2\n")
	})
	l.testFormats(t)
	t.Run("never Ready", func(t *testing.T) {
		t.Parallel()
		wait := l.beginWait(t, "--wait=never-ready", "--print-join-command=agent")
		l.launch(t, k3stest.MachineOptions{Name: "never-ready", NoCNI: true}, wait.read("out"))
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
	startLab(t, 2, k3stest.Options{Program: "rke2"}).testFormats(t)
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
	config, command := l.follow(t, format, wait.read("out"))
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
