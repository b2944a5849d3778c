// Package k3stest starts a real K3s control plane on the loopback interface,
// for tests and for the demo. It needs neither root nor containers, only the
// binary that `make k3s` builds. Several servers of one cluster need root, and
// the network of their own that [NewNetwork] makes.
package k3stest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	// startTimeout bounds a start. A warm start takes some 4 seconds on two
	// cores; a machine that also compiles may need several times that.
	startTimeout = 3 * time.Minute
	// stopTimeout is how long a server may take to end after SIGTERM.
	stopTimeout = 20 * time.Second

	// A server that cannot renew its leases gives up and ends, after 10 seconds
	// by default. One of two has no quorum while the other is restarted, which
	// takes longer on a busy machine; in real life systemd would start it again.
	leaseDuration = "4m"
	renewDeadline = "3m"
	// controllers are those of the controller manager's 37 that have to do with
	// tokens, ServiceAccounts, the published CA and namespaces. They are started
	// one after the other: all of them would double the time of a start.
	controllers = "token-cleaner-controller,serviceaccount-controller,serviceaccount-token-controller," +
		"root-ca-certificate-publisher-controller,namespace-controller"

	// startAttempts is how often a start is tried with other ports, since
	// nothing keeps a free port free between the look and the use.
	startAttempts = 3

	// Ports are drawn from below the range that Linux uses for outgoing
	// connections, which would otherwise take one of ours now and then.
	firstPort, lastPort = 20000, 32000
)

// Options say what kind of server to start.
type Options struct {
	// Dir is a folder for all that the server writes; made if missing.
	Dir string
	// Program is "k3s" (the default) or "rke2".
	Program string
	// Binary is the server's executable; the default is [Binary] of Program.
	Binary string
	// Args are further arguments of `k3s server`.
	Args []string
	// Token is the server token (a password). If empty, K3s makes one up.
	Token string
	// AgentToken is the password for agents; if empty, the server token's.
	AgentToken string
	// CustomCA starts the server with CAs that are intermediates of a private
	// root, as K3s's documentation recommends, in place of self-signed ones.
	CustomCA bool
	// Host is where the server runs; nil is the loopback interface.
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
	// SupervisorURL is what nodes join: URL on K3s, a port of its own on RKE2.
	SupervisorURL string
	// Program is "k3s" or "rke2".
	Program string
	// Version is the server's version, such as v1.31.1+k3s1.
	Version string
	// Kubeconfig is the path of the administrator's kubeconfig, mode 0600.
	Kubeconfig string
	// DataDir is what `k3s server --data-dir` was given.
	DataDir string
	// CAFile is the server's own CA bundle, which nodes get from /cacerts.
	CAFile string
	// LogFile has all that the server printed, over all its starts.
	LogFile string

	options           Options
	port              int // API; port+1 is taken too
	controllerPort    int
	supervisorPort    int // RKE2 only
	process           *process
	admin, supervisor *client
}

// Start starts a server and returns when it can be used: the API is ready, the
// CA is published in kube-system, the kubeconfig is written, and the supervisor
// answers to nodes. The caller has to call [Server.Stop].
func Start(ctx context.Context, options Options) (*Server, error) {
	if options.Dir == "" {
		return nil, errors.New("k3stest: Options.Dir is empty: name a folder for the server's files")
	}
	if options.Program == "" {
		options.Program = "k3s"
	}
	if options.Binary == "" {
		binary, err := Binary(options.Program)
		if err != nil {
			return nil, err
		}
		options.Binary = binary
	}
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the server's folder: %w", err)
	}
	options.Dir = dir
	s := &Server{
		Program:    options.Program,
		Kubeconfig: filepath.Join(dir, "kubeconfig"),
		DataDir:    filepath.Join(dir, "data"),
		CAFile:     filepath.Join(dir, "data", "server", "tls", "server-ca.crt"),
		LogFile:    filepath.Join(dir, options.Program+".log"),
		options:    options,
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if err := s.choosePorts(); err != nil {
			return nil, err
		}
		err := s.start(ctx)
		if err == nil {
			return s, nil
		}
		if attempt == startAttempts || !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

// Restart stops the server and starts it again on the same ports and data.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Stop ends the server's process, by force if it does not end when asked to.
// Stopping a server that does not run is no error.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	err := s.process.stop(stopTimeout)
	s.process = nil
	return err
}

// Kill ends the server's process by force and at once, as when its machine
// fails. [Server.Restart] starts it again.
func (s *Server) Kill() error {
	if s.process == nil {
		return nil
	}
	err := s.process.kill(stopTimeout)
	s.process = nil
	return err
}

// Running tells whether the server's process is alive.
func (s *Server) Running() bool {
	return s.process != nil && s.process.alive()
}

// SetToken replaces the server token that the next [Server.Restart] starts
// with, as an administrator edits K3S_TOKEN after a rotation.
func (s *Server) SetToken(token string) error {
	s.options.Token = token
	return s.writeTokens()
}

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

// prepare lays out the server's folder.
func (s *Server) prepare() error {
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the server's data folder: %w", err)
	}
	// An empty configuration of our own, so that the server does not read the
	// one of a real K3s on this machine.
	if err := os.WriteFile(s.configFile(), nil, 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	if err := s.writeTokens(); err != nil {
		return err
	}
	if s.options.CustomCA {
		return writeCustomCAs(filepath.Join(s.DataDir, "server", "tls"))
	}
	return nil
}

func (s *Server) configFile() string     { return filepath.Join(s.options.Dir, "config.yaml") }
func (s *Server) tokenFile() string      { return filepath.Join(s.options.Dir, "server-token") }
func (s *Server) agentTokenFile() string { return filepath.Join(s.options.Dir, "agent-token") }

// writeTokens hands the tokens over in files: arguments could be read by
// everyone on the machine.
func (s *Server) writeTokens() error {
	for path, token := range map[string]string{
		s.tokenFile():      s.options.Token,
		s.agentTokenFile(): s.options.AgentToken,
	} {
		if token == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the server's token file: %w", err)
		}
	}
	return nil
}

// choosePorts draws the ports of the next start.
func (s *Server) choosePorts() error {
	if host := s.options.Host; host != nil {
		// All ports are free there: the server takes those of its documentation.
		s.port, s.controllerPort = 6443, 10257
		s.URL = host.url(s.port)
		s.SupervisorURL = s.URL
		if s.Program == "rke2" {
			s.supervisorPort = 9345
			s.SupervisorURL = host.url(s.supervisorPort)
		}
		return nil
	}
	var err error
	// The API takes its port and, with nodes on the same port, the one after.
	if s.port, err = freePorts(2); err != nil {
		return err
	}
	if s.controllerPort, err = freePorts(1, s.port, s.port+1); err != nil {
		return err
	}
	s.URL = loopbackURL(s.port)
	s.SupervisorURL = s.URL
	if s.Program == "rke2" {
		if s.supervisorPort, err = freePorts(1, s.port, s.port+1, s.controllerPort); err != nil {
			return err
		}
		s.SupervisorURL = loopbackURL(s.supervisorPort)
	}
	return nil
}

func loopbackURL(port int) string { return "https://127.0.0.1:" + strconv.Itoa(port) }

// freePorts finds n consecutive ports on the loopback interface that nobody
// listens on, none of them in taken, and returns the first.
func freePorts(n int, taken ...int) (int, error) {
draw:
	for range 200 {
		first := firstPort + rand.IntN(lastPort-firstPort)
		for port := first; port < first+n; port++ {
			for _, other := range taken {
				if port == other {
					continue draw
				}
			}
			// All interfaces, since a server that listens on one of them
			// would be in the way of 127.0.0.1 too.
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
	name, address := "k3stest", "127.0.0.1"
	if host := s.options.Host; host != nil {
		name, address = host.Name, host.Address
	}
	args := []string{
		"server",
		"--config", s.configFile(),
		"--data-dir", s.DataDir,
		"--write-kubeconfig", s.Kubeconfig,
		"--write-kubeconfig-mode", "0600",
		"--https-listen-port", strconv.Itoa(s.port),
		"--node-ip", address,
		"--node-name", name,
		"--disable-agent",
		// Without it a server that runs as root puts a kubeconfig link and a
		// node password into the machine's /etc/rancher.
		"--rootless",
		"--disable", "traefik,servicelb,metrics-server,local-storage,coredns,runtimes",
		"--disable-cloud-controller",
		"--disable-network-policy",
		"--disable-helm-controller",
		"--disable-kube-proxy",
		"--disable-scheduler",
		"--flannel-backend", "none",
		"--kube-controller-manager-arg", "secure-port=" + strconv.Itoa(s.controllerPort),
		"--kube-controller-manager-arg", "controllers=" + controllers,
	}
	if s.options.Host == nil {
		args = append(args, "--bind-address", address, "--advertise-address", address)
	} else {
		args = append(args,
			"--kube-controller-manager-arg", "leader-elect-lease-duration="+leaseDuration,
			"--kube-controller-manager-arg", "leader-elect-renew-deadline="+renewDeadline)
	}
	if s.options.Join != "" {
		args = append(args, "--server", s.options.Join)
	}
	if s.supervisorPort != 0 {
		args = append(args, "--supervisor-port", strconv.Itoa(s.supervisorPort))
	}
	if s.options.Token != "" {
		args = append(args, "--token-file", s.tokenFile())
	}
	if s.options.AgentToken != "" {
		args = append(args, "--agent-token-file", s.agentTokenFile())
	}
	return append(args, s.options.Args...)
}

var errPortTaken = errors.New("a port was taken in the meantime")

// start runs the server's process and waits until the server can be used.
func (s *Server) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	// A kubeconfig of an earlier start must not pass for this one's.
	if err := os.Remove(s.Kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the last start's kubeconfig: %w", err)
	}
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	logStart, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	argv := append([]string{s.options.Binary}, s.arguments()...)
	if s.options.Host != nil {
		argv = s.options.Host.inside(argv)
	}
	command := exec.Command(argv[0], argv[1:]...) //nolint:noctx // it outlives the start; ended by Stop
	command.Dir = s.options.Dir
	command.Stdout, command.Stderr = log, log
	// Nothing of the caller's environment: K3S_* and KUBECONFIG would change
	// what is tested, and $HOME is written to.
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.options.Dir, "TMPDIR=" + os.TempDir(),
		"CATTLE_ELECTION_LEASE_DURATION=" + leaseDuration, "CATTLE_ELECTION_RENEW_DEADLINE=" + renewDeadline}
	if s.process, err = startProcess(command); err != nil {
		return fmt.Errorf("start %s: %w", s.options.Binary, err)
	}
	if err := s.awaitReady(ctx); err != nil {
		_ = s.Stop()
		tail := readTail(log, logStart)
		if bytes.Contains(tail, []byte("address already in use")) {
			err = errors.Join(err, errPortTaken)
		}
		return fmt.Errorf("%s server did not come up: %w\nend of its log:\n%s", s.Program, err, tail)
	}
	return s.pointKubeconfig()
}

// pointKubeconfig has the kubeconfig of a server on a host of its own lead
// there: as K3s writes it, it is for use on that host.
func (s *Server) pointKubeconfig() error {
	if s.options.Host == nil {
		return nil
	}
	content, err := os.ReadFile(s.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read the server's kubeconfig: %w", err)
	}
	content = bytes.ReplaceAll(content, []byte(loopbackURL(s.port)), []byte(s.URL))
	if err := os.WriteFile(s.Kubeconfig, content, 0o600); err != nil {
		return fmt.Errorf("write the server's kubeconfig: %w", err)
	}
	return nil
}

// readTail returns the last lines of the log after the given offset.
func readTail(log io.ReaderAt, from int64) []byte {
	const most = 4000
	content, err := io.ReadAll(io.NewSectionReader(log, from, 64<<20))
	if err != nil {
		return []byte(err.Error())
	}
	if len(content) > most {
		content = content[len(content)-most:]
		if i := bytes.IndexByte(content, '\n'); i >= 0 {
			content = content[i+1:]
		}
	}
	return content
}

// Binary is the path of the built server, "k3s" or "rke2". The error says how
// to build it.
func Binary(program string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "hack", "k3s", "bin", program)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the %s test server is not built: run `make %s`: %w", program, program, err)
	}
	return path, nil
}

// Root is the top folder of this repository, found from the working directory,
// since test binaries are built without the paths of their sources.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "hack", "k3s", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository: the working directory is not inside it")
		}
		dir = parent
	}
}
