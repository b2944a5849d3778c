// Package e2e drives the built plugin against a real K3s server.
//
// Each file of testdata/script is one test, in the language of
// https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript with the
// commands of commands_test.go. A script has a server to itself for as long as
// it runs, and finds it without any bootstrap token. The Go tests do the things that
// a script cannot: signals, broken connections, servers that are killed.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

var (
	root   string // top folder of the repository
	plugin string // the built one
	work   string // folder for everything that tests share

	plain = newPool(2, k3stest.Options{})
	rke2  = newPool(1, k3stest.Options{Program: "rke2"})
	// beside has a place for each server of a test's own, so that they do not
	// starve on a small machine.
	beside = make(chan struct{}, 6)

	// oracle answers with K3s's own judgement of tokens. It is in hack/k3s alone.
	oracle = sync.OnceValues(k3stest.StartOracle)
)

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

// runAll runs the tests and then stops the servers that they started.
func runAll(m *testing.M) int {
	flag.Parse()
	var err error
	if root, err = k3stest.Root(); err != nil {
		panic(err)
	}
	plugin = filepath.Join(root, "bin", "kubectl-k3s_token")
	_, noPlugin := os.Stat(plugin)
	_, noK3s := k3stest.Binary("k3s")
	if err := errors.Join(noPlugin, noK3s); err != nil {
		fmt.Fprintln(os.Stderr, "run make test-e2e:", err)
		if os.Getenv("CI") == "true" || os.Getenv("K3STOKEN_E2E") == "1" {
			return 1
		}
		return 0
	}
	// Tests settle themselves which of them run beside others. Those that wait
	// must not keep the others from running.
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	if work, err = os.MkdirTemp("", "k3t"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // a folder for temporary files
	if err := errors.Join(k3stest.Kubectl(work), os.Setenv("PATH", work+":"+os.Getenv("PATH"))); err != nil {
		panic(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = os.RemoveAll(work)
		os.Exit(130) // the kernel ends the servers
	}()
	code := m.Run()
	plain.stop()
	rke2.stop()
	return code
}

// A pool has servers of a kind that tests borrow. Each is started at its first
// use; until then its place in the channel holds nil.
type pool struct {
	options k3stest.Options
	servers chan *k3stest.Server
}

func newPool(size int, options k3stest.Options) pool {
	p := pool{options, make(chan *k3stest.Server, size)}
	for range size {
		p.servers <- nil
	}
	return p
}

// borrow returns a server without tokens, which no other test uses until this
// one ends.
func (p pool) borrow(t *testing.T) *k3stest.Server {
	t.Helper()
	t.Parallel()
	server := <-p.servers
	t.Cleanup(func() { p.servers <- server })
	if server == nil {
		server = startServer(t, p.options)
	}
	deleteTokens(t, server)
	return server
}

func (p pool) stop() {
	for range cap(p.servers) {
		if server := <-p.servers; server != nil {
			server.Stop()
		}
	}
}

// startOwn starts a server that only this test uses, beside other tests.
func startOwn(t *testing.T, options k3stest.Options) *k3stest.Server {
	t.Helper()
	beside <- struct{}{}
	t.Cleanup(func() { <-beside })
	server := startServer(t, options)
	t.Cleanup(server.Stop)
	return server
}

func startServer(t *testing.T, options k3stest.Options) *k3stest.Server {
	t.Helper()
	if options.Program == "rke2" && os.Getenv("K3S") != "" {
		t.Skip("RKE2 is of hack/k3s, and K3S names another K3s")
	}
	if _, err := exec.LookPath("openssl"); options.CustomCA && err != nil {
		missing(t, err)
	}
	options.Dir = shortDir(t)
	server, err := k3stest.Start(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// shortDir makes a folder with a short name, since it becomes part of the paths of
// unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(work, "") //nolint:usetesting // that has the test's name in it
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// missing skips the test on a developer's machine that lacks something, and
// fails it if all tests are meant to run.
func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// inCampaign reports whether make campaign runs the tests.
func inCampaign() bool { return os.Getenv("K3STOKEN_CAMPAIGN") != "" }

// campaign is how many attempts a test makes: a few in every run of the tests,
// and as many as K3STOKEN_CAMPAIGN says in make campaign.
func campaign(t *testing.T, usually int) int {
	t.Helper()
	if !inCampaign() {
		return usually
	}
	n, err := strconv.Atoi(os.Getenv("K3STOKEN_CAMPAIGN"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// deleteTokens leaves the cluster without bootstrap tokens.
func deleteTokens(t *testing.T, server *k3stest.Server) {
	t.Helper()
	err := server.Core.Secrets(metav1.NamespaceSystem).DeleteCollection(t.Context(), metav1.DeleteOptions{}, onlyTokens)
	if err != nil {
		t.Fatal(err)
	}
}
