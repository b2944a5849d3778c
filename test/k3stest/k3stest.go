// Package k3stest starts a real K3s control plane on the loopback interface,
// for tests and for the demo. It needs neither root nor containers, only the
// binary that `make k3s` builds. Several servers of one cluster need root and a
// [Network] of their own. So do real agents, each on a [Machine] of its own. It
// runs on Linux.
package k3stest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// startTimeout bounds a start. A warm start takes some 4 seconds on two
	// cores; a machine that also compiles may need several times that.
	startTimeout = 3 * time.Minute

	// A server that cannot renew its leases ends, after 10 seconds by default.
	// One of two has no quorum while the other is restarted, which takes longer
	// on a busy machine; elsewhere systemd would start it again.
	leaseDuration = "4m"
	renewDeadline = "3m"
	// controllers are those of the controller manager's 37 that have to do with
	// tokens, ServiceAccounts, the published CA and namespaces. All of them would
	// double the time of a start.
	controllers = "token-cleaner-controller,serviceaccount-controller,serviceaccount-token-controller," +
		"root-ca-certificate-publisher-controller,namespace-controller"

	// Ports are below the range that Linux uses for outgoing connections.
	firstPort, lastPort = 20000, 32000
)

// controlPlaneOnly are the arguments of a server that is nothing but a control plane.
// A server that joins is refused if some of them are not those of the others.
var controlPlaneOnly = []string{
	"--disable-agent",
	// Without it a server that runs as root puts a kubeconfig link and a node
	// password into the machine's /etc/rancher.
	"--rootless",
	"--disable", "traefik,servicelb,metrics-server,local-storage,coredns,runtimes",
	"--disable-cloud-controller",
	"--disable-network-policy",
	"--disable-helm-controller",
	"--disable-kube-proxy",
	"--disable-scheduler",
	"--flannel-backend", "none",
}

// Options describe the server to start.
type Options struct {
	// Dir is the absolute path of a folder for all that the server writes; made if
	// missing.
	Dir string
	// Program is "k3s" (the default) or "rke2".
	Program string
	// Args are further arguments of `k3s server`.
	Args []string
	// Token is the server token (a password). If empty, K3s makes one up.
	Token string
	// AgentToken is the password for agents; if empty, the server token's.
	AgentToken string
	// CustomCA starts the server with CAs below a private root, which K3s's own
	// script makes, in place of self-signed ones.
	CustomCA bool
	// Host is the network host that the server runs on; nil is the loopback
	// interface.
	Host *Host
	// Join is a server's URL: the server joins its cluster, over embedded etcd,
	// and Token is that cluster's. A server that others join has "--cluster-init"
	// in Args.
	Join string
}

// Server is a running K3s server.
type Server struct {
	// URL is that of the Kubernetes API.
	URL string
	// SupervisorURL is the address that nodes join: URL on K3s, another port on RKE2.
	SupervisorURL string
	// Program is "k3s" or "rke2".
	Program string
	// Version is the server's version, such as v1.31.1+k3s1.
	Version string
	// Kubeconfig is the path of the administrator's kubeconfig, mode 0600.
	Kubeconfig string
	// DataDir is the value of `k3s server --data-dir`.
	DataDir string
	// CAFile is the server's own CA bundle, which nodes get from /cacerts.
	CAFile string
	// Core is a client of the API for the administrator.
	Core corev1client.CoreV1Interface

	options        Options
	binary         string
	port           int // API; port+1 is taken too
	controllerPort int
	supervisorPort int // RKE2 only
	process        *process
}

// Start starts a server and returns when it can be used: the API is ready, and the
// supervisor answers to nodes. The CA is then published in kube-system, and the
// kubeconfig written. The caller has to call [Server.Stop].
func Start(ctx context.Context, options Options) (*Server, error) {
	options.Program = cmp.Or(options.Program, "k3s")
	binary, err := Binary(options.Program)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Program:    options.Program,
		Kubeconfig: filepath.Join(options.Dir, "kubeconfig"),
		DataDir:    filepath.Join(options.Dir, "data"),
		CAFile:     filepath.Join(options.Dir, "data", "server", "tls", "server-ca.crt"),
		options:    options,
		binary:     binary,
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the server's data folder: %w", err)
	}
	if options.CustomCA {
		if err := s.RunScript(ctx, "generate-custom-ca-certs.sh"); err != nil {
			return nil, err
		}
	}
	// A free port may be taken between the look and the use.
	for range 3 {
		if err = s.choosePorts(); err != nil {
			return nil, err
		}
		if err = s.start(ctx); err == nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return s, err
}

// Restart stops the server, and starts it again on the same ports and data. It starts
// with the server token, in any format, as an administrator edits K3S_TOKEN after a
// rotation; with the one that it had if that is empty.
func (s *Server) Restart(ctx context.Context, serverToken string) error {
	if serverToken != "" {
		parsed, err := token.Parse(strings.TrimSpace(serverToken))
		if err != nil {
			return err
		}
		s.options.Token = parsed.Secret.Reveal()
	}
	s.Stop()
	return s.start(ctx)
}

// Stop ends the server's process, by force if it does not end when asked to.
// Stopping a server that does not run does nothing.
func (s *Server) Stop() { s.process.stop() }

// Kill ends the server's process by force, as a crash does.
func (s *Server) Kill() { s.process.kill() }

// ServerToken is the server token in secure format, as the server's own file
// has it.
func (s *Server) ServerToken() (string, error) { return s.readToken("token") }

// AgentToken is the agents' token in secure format, as the server's own file
// has it; the server token unless another one was given.
func (s *Server) AgentToken() (string, error) { return s.readToken("agent-token") }

func (s *Server) readToken(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(s.DataDir, "server", name))
	if err != nil {
		return "", fmt.Errorf("read the server's own token: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// RunScript runs a script for CAs on the server's data. K3s's module has it in
// contrib/util, and it needs openssl.
func (s *Server) RunScript(ctx context.Context, name string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	module, err := exec.CommandContext(ctx, "go", "-C", filepath.Join(root, "hack", "k3s"),
		"list", "-find", "-f", "{{.Module.Dir}}", "github.com/k3s-io/k3s/pkg/version").Output()
	if err != nil {
		return fmt.Errorf("find K3s's scripts: %w", err)
	}
	script := exec.CommandContext(ctx, "bash", filepath.Join(strings.TrimSpace(string(module)), "contrib", "util", name))
	script.Env = append(os.Environ(), "DATA_DIR="+s.DataDir)
	if out, err := script.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (s *Server) file(name string) string { return filepath.Join(s.options.Dir, name) }

// choosePorts draws the ports of the next start.
func (s *Server) choosePorts() error {
	address := "127.0.0.1"
	if host := s.options.Host; host != nil {
		// All ports are free there.
		address, s.port, s.controllerPort, s.supervisorPort = host.Address, 6443, 10257, 9345
	} else {
		var err error
		if s.port, err = freePorts(4); err != nil {
			return err
		}
		s.controllerPort, s.supervisorPort = s.port+2, s.port+3
	}
	s.URL = fmt.Sprintf("https://%s:%d", address, s.port)
	s.SupervisorURL = s.URL
	if s.Program == "rke2" {
		s.SupervisorURL = fmt.Sprintf("https://%s:%d", address, s.supervisorPort)
	}
	return nil
}

// freePorts finds n consecutive ports that nobody listens on, and returns the
// first.
func freePorts(n int) (int, error) {
draw:
	for range 200 {
		first := firstPort + rand.IntN(lastPort-firstPort)
		for port := first; port < first+n; port++ {
			// On all interfaces, since a listener on one of them would be in
			// the way of 127.0.0.1 too.
			listener, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: port})
			if err != nil {
				continue draw
			}
			_ = listener.Close()
		}
		return first, nil
	}
	return 0, fmt.Errorf("no %d free ports in a row between %d and %d: stop other test servers", n, firstPort, lastPort)
}

// arguments are the command line of the server: only the control plane, all of
// it on the loopback interface or on its own host.
func (s *Server) arguments() []string {
	host := s.options.Host
	if host == nil {
		host = &Host{Name: "k3stest", Address: "127.0.0.1"}
	}
	args := []string{
		"server",
		"--config", os.DevNull, // not the one of a real K3s on this machine
		"--data-dir", s.DataDir,
		"--write-kubeconfig", s.Kubeconfig,
		"--write-kubeconfig-mode", "0600",
		"--https-listen-port", strconv.Itoa(s.port),
		"--bind-address", host.Address,
		"--advertise-address", host.Address,
		"--node-ip", host.Address,
		"--node-name", host.Name,
		"--kube-controller-manager-arg", "secure-port=" + strconv.Itoa(s.controllerPort),
		"--kube-controller-manager-arg", "controllers=" + controllers,
		"--kube-controller-manager-arg", "leader-elect-lease-duration=" + leaseDuration,
		"--kube-controller-manager-arg", "leader-elect-renew-deadline=" + renewDeadline,
	}
	args = append(args, controlPlaneOnly...)
	if s.options.Join != "" {
		args = append(args, "--server", s.options.Join)
	}
	if s.Program == "rke2" {
		args = append(args, "--supervisor-port", strconv.Itoa(s.supervisorPort))
	}
	return append(args, s.options.Args...)
}

// start runs the server's process and waits until the server can be used.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	// A kubeconfig of an earlier start must not pass for this one's.
	if err := os.Remove(s.Kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the last start's kubeconfig: %w", err)
	}
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	argv := slices.Concat(s.options.Host.prefix(), []string{s.binary}, s.arguments())
	command := exec.Command(argv[0], argv[1:]...) //nolint:noctx // it outlives the start; ended by Stop
	command.Dir = s.options.Dir
	command.Stdout, command.Stderr = log, log
	// Nothing of the caller's environment: K3S_* and KUBECONFIG would change
	// the server, and $HOME is written to. Arguments could be read by everyone.
	prefix := strings.ToUpper(s.Program)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.options.Dir, "TMPDIR=" + os.TempDir(),
		"CATTLE_ELECTION_LEASE_DURATION=" + leaseDuration, "CATTLE_ELECTION_RENEW_DEADLINE=" + renewDeadline,
		prefix + "_TOKEN=" + s.options.Token, prefix + "_AGENT_TOKEN=" + s.options.AgentToken}
	if s.process, err = startProcess(command); err != nil {
		return fmt.Errorf("start %s: %w", s.binary, err)
	}
	if err := s.process.await(ctx, s.connect); err != nil {
		s.Stop()
		content, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s server did not come up: %w\nend of its log:\n%s", s.Program, err, content[max(0, len(content)-4000):])
	}
	return nil
}

// Binary is the path of the server, "k3s" or "rke2". The environment variable
// K3S names another K3s than the built one. The error says how to build it.
func Binary(program string) (string, error) {
	if own := os.Getenv("K3S"); own != "" && program == "k3s" {
		return own, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "hack", "k3s", "bin", program)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the %s test server is not built: run `make %s`: %w", program, program, err)
	}
	return path, nil
}

// Kubectl makes the program kubectl, which is K3s's own, in a folder for PATH.
func Kubectl(folder string) error {
	k3s, err := Binary("k3s")
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' kubectl \"$@\"\n", k3s)
	return os.WriteFile(filepath.Join(folder, "kubectl"), []byte(script), 0o700)
}

// Root is the top folder of this repository, found from the working directory,
// since test binaries are built without the paths of their sources.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "hack", "k3s", "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			err = errors.New("the working directory is not inside it")
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("find the repository: %w", err)
}
