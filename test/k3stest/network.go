package k3stest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// networkPrefix starts the names of all that a network is made of; the id of
// the process that made it follows.
const networkPrefix = "k3t"

// Network is a small network on this machine, in which several servers of one
// cluster each have an address: a network namespace a host, around one with a
// bridge that joins them. The bridge is in a namespace of its own to be out of
// reach of the machine's packet filter, which often drops what is forwarded.
type Network struct {
	prefix netip.Prefix // its first address is this machine's
	names  []string     // of the namespaces, the bridge's first
}

// Host is a place on a network.
type Host struct {
	// Name is short, and Address an IPv4 address that this machine reaches.
	Name, Address string

	namespace string
}

// NetworkMissing says what keeps this machine from having a [Network], or
// returns nil.
func NetworkMissing() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("install the package iproute2: %w", err)
	}
	return nil
}

// NewNetwork makes a network of n hosts, called s1, s2 and so on. The caller
// has to call [Network.Close].
func NewNetwork(n int) (*Network, error) {
	if err := NetworkMissing(); err != nil {
		return nil, err
	}
	if err := removeNetworksOfTheDead(); err != nil {
		return nil, err
	}
	prefix, err := freePrefix()
	if err != nil {
		return nil, err
	}
	w := &Network{prefix: prefix}
	if err := w.build(n); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Host returns the host of that number, from 1.
func (w *Network) Host(n int) *Host {
	return &Host{Name: "s" + strconv.Itoa(n), Address: w.address(n), namespace: w.names[n]}
}

// Machine is the address on the network of the machine itself.
func (w *Network) Machine() string { return w.address(0) }

// Close takes the network away. What runs on its hosts is to be stopped before.
func (w *Network) Close() error {
	var errs []error
	for _, name := range w.names {
		// The interfaces go with their namespaces.
		errs = append(errs, ip("netns", "delete", name))
	}
	w.names = nil
	return errors.Join(errs...)
}

func (w *Network) build(n int) error {
	own := networkPrefix + strconv.Itoa(os.Getpid())
	bridge, err := w.namespace(own + "-br")
	if err != nil {
		return err
	}
	steps := [][]string{
		{"-n", bridge, "link", "add", "br0", "up", "type", "bridge"},
		{"link", "add", own, "type", "veth", "peer", "name", "up0", "netns", bridge},
		{"-n", bridge, "link", "set", "up0", "up", "master", "br0"},
		{"address", "add", w.withLength(0), "dev", own},
		{"link", "set", own, "up"},
	}
	for i := 1; i <= n; i++ {
		host, err := w.namespace(own + "-s" + strconv.Itoa(i))
		if err != nil {
			return err
		}
		port := "s" + strconv.Itoa(i)
		steps = append(steps, [][]string{
			{"-n", bridge, "link", "add", port, "up", "master", "br0", "type", "veth", "peer", "name", "eth0", "netns", host},
			{"-n", host, "address", "add", w.withLength(i), "dev", "eth0"},
			{"-n", host, "link", "set", "eth0", "up"},
			{"-n", host, "link", "set", "lo", "up"},
			// K3s does not start without a default route.
			{"-n", host, "route", "add", "default", "via", w.address(0)},
		}...)
	}
	for _, step := range steps {
		if err := ip(step...); err != nil {
			return err
		}
	}
	return nil
}

func (w *Network) namespace(name string) (string, error) {
	if err := ip("netns", "add", name); err != nil {
		return "", err
	}
	w.names = append(w.names, name)
	return name, nil
}

// address is that of a host, or of this machine for 0.
func (w *Network) address(n int) string {
	addr := w.prefix.Addr().Next()
	for range n {
		addr = addr.Next()
	}
	return addr.String()
}

func (w *Network) withLength(n int) string {
	return w.address(n) + "/" + strconv.Itoa(w.prefix.Bits())
}

func (h *Host) url(port int) string {
	return "https://" + net.JoinHostPort(h.Address, strconv.Itoa(port))
}

// inside is a command line that runs the given one on the host.
func (h *Host) inside(argv []string) []string {
	return append([]string{"ip", "netns", "exec", h.namespace}, argv...)
}

// freePrefix finds addresses that this machine has no other use for.
func freePrefix() (netip.Prefix, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, err
	}
draw:
	for i := range 64 {
		// Process ids make two runs start at different places.
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, byte(os.Getpid()) + byte(i), 0}), 24)
		for _, address := range taken {
			other, err := netip.ParsePrefix(address.String())
			if err != nil || other.Overlaps(prefix) {
				continue draw
			}
		}
		return prefix, nil
	}
	return netip.Prefix{}, errors.New("no addresses below 10.213.0.0 are free: remove network namespaces that are left over")
}

// removeNetworksOfTheDead takes away what processes left that were killed.
func removeNetworksOfTheDead() error {
	out, err := exec.Command("ip", "netns", "list").Output() //nolint:noctx // it is done at once
	if err != nil {
		return fmt.Errorf("ip netns list: %w", err)
	}
	var errs []error
	for line := range bytes.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		rest, ours := strings.CutPrefix(name, networkPrefix)
		id, _, _ := strings.Cut(rest, "-")
		if _, err := strconv.Atoi(id); !ours || err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + id); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, ip("netns", "delete", name))
		}
	}
	return errors.Join(errs...)
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput() //nolint:noctx // it is done at once
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
