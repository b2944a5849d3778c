package k3stest

import (
	"bufio"
	_ "embed" // network.sh
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

//go:embed network.sh
var networkScript string

// Network is a small network on this machine, whose hosts have addresses of their
// own: several servers of a cluster, or servers and agents.
type Network struct {
	net4, net6 string
	process    *process
}

// Host is a place on a network.
type Host struct {
	// Name is short, and Address an IPv4 address that this machine reaches.
	Name, Address string
	// Address6 is the host's IPv6 address.
	Address6 string

	namespace string // path of the network namespace
}

// NewNetwork makes a network of that many hosts, for which it needs root and
// iproute2. The caller has to call [Network.Close]; the network also goes with this
// process.
func NewNetwork(hosts int) (n *Network, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	for range 10 { // since another network may have the addresses that it draws
		if n, err = newNetwork(hosts); err == nil {
			break
		}
	}
	return n, err
}

func newNetwork(hosts int) (*Network, error) {
	number := rand.IntN(256)
	n := &Network{net4: fmt.Sprintf("10.213.%d", number), net6: fmt.Sprintf("fd6b:3374:%x", number)}
	command := exec.Command("sh", "-c", networkScript, "sh", //nolint:noctx // ended by Close
		"k3t"+strconv.Itoa(number)+"."+strconv.Itoa(os.Getpid()%100000), n.net4, n.net6, strconv.Itoa(hosts))
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	var problem strings.Builder
	command.Stderr = &problem
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if n.process, err = startProcess(command); err != nil {
		return nil, fmt.Errorf("make a network: %w", err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		<-n.process.ended
		return nil, fmt.Errorf("make a network: %s", problem.String())
	}
	return n, nil
}

// Host returns the host of that number, from 1.
func (n *Network) Host(number int) *Host {
	name := "s" + strconv.Itoa(number)
	return &Host{
		Name: name, Address: fmt.Sprintf("%s.%d", n.net4, number+1), Address6: fmt.Sprintf("%s::%x", n.net6, number+1),
		namespace: fmt.Sprintf("/proc/%d/root/run/netns/%s", n.process.command.Process.Pid, name),
	}
}

// Here is the host that this process runs on, at its address on the network.
func (n *Network) Here() *Host {
	return &Host{Name: "here", Address: n.net4 + ".1", Address6: n.net6 + "::1"}
}

// Close removes the network. Stop the processes on its hosts before.
func (n *Network) Close() { n.process.kill() }

// prefix starts a command line that runs on the host; nil is this machine.
func (h *Host) prefix() []string {
	if h == nil || h.namespace == "" {
		return nil
	}
	return []string{"nsenter", "--net=" + h.namespace}
}
