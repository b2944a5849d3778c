package k3stest

import (
	"cmp"
	"context"
	_ "embed" // machine.sh
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

//go:embed machine.sh
var machineScript string

// cniConfig makes a node's network ready in the kubelet's eyes. No pod ever
// uses it.
const cniConfig = `{"cniVersion": "0.4.0", "name": "k3stest", "plugins": [
  {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "subnet": "10.42.0.0/24"}}]}
`

// MachineOptions describe the machine to make.
type MachineOptions struct {
	// Dir is a folder for the machine's disk; made if missing.
	Dir string
	// Host is the machine's place on a network.
	Host *Host
	// Name is the machine's host name, which becomes its node's name.
	Name string
	// Program is "k3s" (the default) or "rke2".
	Program string
	// Config is the config.yaml of the machine's K3s.
	Config string
	// Hosts is the machine's /etc/hosts; there is no other name service.
	Hosts string
	// NoRuntime leaves out the container runtime: an agent joins, but has no kubelet.
	NoRuntime bool
	// NoCNI leaves out the configuration without which a node never gets Ready.
	NoCNI bool
}

// Machine is a place for a K3s of its own. Its host name, network, disk and processes
// are apart from those of this machine and of other Machines.
type Machine struct {
	options MachineOptions
	binary  string
	process *process
}

// NewMachine makes a machine, for which [NodeTools] has to be satisfied. Nothing runs
// on it yet.
func NewMachine(options MachineOptions) (*Machine, error) {
	options.Program = cmp.Or(options.Program, "k3s")
	binary, err := Binary(options.Program)
	if err != nil {
		return nil, err
	}
	m := &Machine{options: options, binary: binary}
	return m, m.writeDisk()
}

// NodeTools returns an error if this machine lacks something to run nodes.
func NodeTools() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root")
	}
	for _, tool := range []string{"ip", "nsenter", "containerd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("a node needs %s: %w", tool, err)
		}
	}
	return nil
}

// writeDisk writes the files of the disk. Settings of this kind of machine
// stand beside the config.yaml that a user has.
func (m *Machine) writeDisk() error {
	config := filepath.Join("etc/rancher", m.options.Program, "config.yaml")
	files := map[string]string{
		config: m.options.Config,
		config + ".d/machine.yaml": "container-runtime-endpoint: unix:///run/containerd/containerd.sock\n" +
			// Without them the kubelet makes cgroups that stay.
			"kubelet-arg+: [cgroups-per-qos=false, enforce-node-allocatable=]\n",
		"hosts": m.options.Hosts,
	}
	if !m.options.NoCNI {
		files["cni.conflist"] = cniConfig
	}
	for name, content := range files {
		path := filepath.Join(m.options.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			return fmt.Errorf("write the machine's disk: %w", err)
		}
	}
	return nil
}

// Start runs a shell command on the machine, such as "k3s agent", until it ends or
// [Machine.Stop] is called. The environment is added to an almost empty one.
func (m *Machine) Start(shellCommand string, env ...string) error {
	log, err := os.OpenFile(m.file("log"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the machine's log: %w", err)
	}
	defer log.Close()
	command := m.command(context.Background(), shellCommand, env)
	command.Stdout, command.Stderr = log, log
	if m.process, err = startProcess(command); err != nil {
		return fmt.Errorf("start a machine: %w", err)
	}
	return nil
}

// Run runs a shell command on the machine to its end, and returns its standard
// output.
func (m *Machine) Run(ctx context.Context, shellCommand string, env ...string) (string, error) {
	out, err := m.command(ctx, shellCommand, env).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// Stop takes the machine's power away; its disk stays. Stopping a machine that does
// not run does nothing.
func (m *Machine) Stop() { m.process.kill() }

// Log is the output of the command of the last Start so far.
func (m *Machine) Log() string {
	content, _ := os.ReadFile(m.file("log"))
	return string(content)
}

func (m *Machine) file(name string) string { return filepath.Join(m.options.Dir, name) }

// command is a shell command on the machine. It goes there by the environment, since
// it may hold a token, and arguments could be read by everyone.
func (m *Machine) command(ctx context.Context, shellCommand string, env []string) *exec.Cmd {
	argv := slices.Concat(m.options.Host.prefix(), []string{"sh", "-c", machineScript})
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Dir = m.options.Dir
	command.Env = append([]string{"PATH=" + filepath.Dir(m.binary) + ":" + os.Getenv("PATH"), "HOME=/root",
		"NODE=" + m.options.Name, "RUNTIME=" + strconv.FormatBool(!m.options.NoRuntime), "COMMAND=" + shellCommand}, env...)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS}
	return command
}
