package k3stest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
)

// network makes and removes a network of two hosts: a network namespace a host,
// around one with a bridge that joins them. The bridge is in a namespace of its
// own to be out of reach of the machine's packet filter, which often drops
// forwarded packets. Interfaces go with their namespaces. K3s does not start
// without a default route.
const network = `set -e
own=$1 net=$2
case $3 in
up)
	ip netns add "$own-br"
	ip -n "$own-br" link add br0 up type bridge
	ip link add "$own" type veth peer name up0 netns "$own-br"
	ip -n "$own-br" link set up0 up master br0
	ip address add "$net.1/24" dev "$own"
	ip link set "$own" up
	for i in 1 2; do
		ip netns add "$own-s$i"
		ip -n "$own-br" link add "s$i" up master br0 type veth peer name eth0 netns "$own-s$i"
		ip -n "$own-s$i" address add "$net.$((i + 1))/24" dev eth0
		ip -n "$own-s$i" link set eth0 up
		ip -n "$own-s$i" link set lo up
		ip -n "$own-s$i" route add default via "$net.1"
	done ;;
down)
	for name in "$own-br" "$own-s1" "$own-s2"; do
		ip netns delete "$name"
	done ;;
esac`

// Network is a small network on this machine, in which two servers of one cluster
// each have an address.
type Network struct{ own, net string }

// Host is a place on a network.
type Host struct {
	// Name is short, and Address an IPv4 address that this machine reaches.
	Name, Address string

	namespace string
}

// NewNetwork makes a network, for which it needs root and iproute2. The caller
// has to call [Network.Close].
func NewNetwork() (*Network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	// Two runs at the same time hardly ever draw the same addresses.
	n := &Network{own: "k3t" + strconv.Itoa(os.Getpid()), net: fmt.Sprintf("10.213.%d", rand.IntN(256))}
	if err := n.run("up"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Host returns the host of that number, 1 or 2.
func (n *Network) Host(number int) *Host {
	name := "s" + strconv.Itoa(number)
	return &Host{Name: name, Address: fmt.Sprintf("%s.%d", n.net, number+1), namespace: n.own + "-" + name}
}

// Machine is the address on the network of the machine itself.
func (n *Network) Machine() string { return n.net + ".1" }

// Close takes the network away. The servers on its hosts are to be stopped
// before.
func (n *Network) Close() error { return n.run("down") }

func (n *Network) run(what string) error {
	out, err := exec.Command("sh", "-c", network, "sh", n.own, n.net, what).CombinedOutput() //nolint:noctx // it is done at once
	if err != nil {
		return fmt.Errorf("take the network %s: %w: %s", what, err, out)
	}
	return nil
}

// prefix starts a command line that runs on the host; nil is this machine.
func (h *Host) prefix() []string {
	if h == nil {
		return nil
	}
	return []string{"ip", "netns", "exec", h.namespace}
}
