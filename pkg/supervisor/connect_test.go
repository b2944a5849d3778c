package supervisor_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const otherHash = "0000000000000000000000000000000000000000000000000000000000000000"

// statuses is how the steps ended, in order.
func statuses(steps []supervisor.Step) string {
	var out []string
	for _, step := range steps {
		out = append(out, fmt.Sprintf("%d %s", step.Number, step.Status))
	}
	return strings.Join(out, ", ")
}

func TestConnectFindsOutWhatTheServerIs(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]supervisor.Distribution{"k3s": supervisor.K3s, "rke2": supervisor.RKE2} {
		ca, w := newCA(t, nil), &witness{}
		k := &k3s{program: program, bundle: bundle(ca)}
		cert := issue(t, ca, func(c *x509.Certificate) { c.Subject.Organization = []string{program} })
		u, hash := serve(t, w, k, always(cert)), hashOf(t, k.bundle)
		if s := connect(t, u, quick(hash)); s.CAHash() != hash || "https://"+s.Remote() != u.String() || s.Proxied() {
			t.Errorf("got %s at %s", s.CAHash(), s.Remote())
		}
		w.sawNothing(t)
		report, err := supervisor.Verify(t.Context(), u, parse(t, bootstrapToken), quick(hash))
		if err != nil || report.Distribution != want || report.CAHash != hash || "https://"+report.Remote != u.String() || report.Steps[1].Detail != hash {
			t.Errorf("got %+v, %v", report, err)
		}
	}
}

func TestACAHashDecidesWhomToTrust(t *testing.T) {
	t.Parallel()
	k := &k3s{}
	u, w := newK3s(t, k, nil)
	const refused, accepted, skipped = "1 passed, 2 passed, 3 failed", "1 passed, 2 passed, 3 passed, 4 passed, 5 passed", "1 passed, 2 passed, 3 skipped, 4 passed, 5 passed"
	for _, test := range []struct {
		name           string
		token, options string // hashes
		context        string
		trustUnknown   bool
		steps          string
		err            error
	}{
		{"none", "", "", otherHash, false, refused, supervisor.ErrUnverified},
		{"another in the options", "", otherHash, k.hash, true, refused, &supervisor.HashMismatchError{Token: otherHash, Server: k.hash}},
		{"another in the token", otherHash, k.hash, k.hash, true, refused, &supervisor.HashMismatchError{Token: otherHash, Server: k.hash}},
		{"in the options", "", k.hash, "", false, accepted, nil},
		{"in the token", k.hash, otherHash, "", false, accepted, nil},
		{"that of the context", "", "", k.hash, false, accepted, nil},
		{"none, and anybody is trusted", "", "", otherHash, true, skipped, nil},
	} {
		opts := quick(test.options)
		opts.ContextCAHash, opts.TrustUnknownServer = test.context, test.trustUnknown
		report, err := supervisor.Verify(t.Context(), u, parse(t, bootstrapToken).WithCAHash(test.token), opts)
		if got := statuses(report.Steps); got != test.steps {
			t.Errorf("%s: got %s, want %s", test.name, got, test.steps)
		}
		if test.err == nil {
			if err != nil || report.CAHash != k.hash {
				t.Errorf("%s: got %+v, %v", test.name, report, err)
			}
			continue
		}
		checkError(t, err)
		if !reflect.DeepEqual(errors.Unwrap(err), test.err) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.err)
		}
		w.sawNothing(t) // accepted ones come last
	}
}

func TestBundlesOfCustomCAsAreTrusted(t *testing.T) {
	t.Parallel()
	root, stranger := newCA(t, nil), newCA(t, nil)
	intermediate := newCA(t, root)
	issuing := newCA(t, intermediate)
	for name, shown := range map[string][]byte{
		"a chain":                              bundle(issuing, intermediate, root),
		"a chain with another root":            bundle(issuing, intermediate, root, stranger),
		"a chain without root, hashed as text": bundle(issuing, intermediate),
		"a comment before the certificate":     append([]byte("# the CA\n"), bundle(issuing)...),
	} {
		u := serve(t, &witness{}, &k3s{bundle: shown}, always(issue(t, issuing)))
		if _, err := supervisor.Verify(t.Context(), u, parse(t, bootstrapToken), quick(hashOf(t, shown))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBusyServersAreAskedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status   int
		refusals int32
		want     supervisor.Verdict
	}{
		{http.StatusTooManyRequests, 3, supervisor.Accepted},
		{http.StatusServiceUnavailable, 3, supervisor.Accepted},
		{http.StatusTooManyRequests, 4, supervisor.Busy},
		{http.StatusServiceUnavailable, 4, supervisor.NotReady},
		{http.StatusInternalServerError, 1, supervisor.Unexpected},
	} {
		k, asked := &k3s{}, atomic.Int32{}
		u, _ := newK3s(t, k, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" || asked.Add(1) > test.refusals {
				return false
			}
			w.WriteHeader(test.status)
			return true
		})
		f, err := connect(t, u, quick(k.hash)).Probe(t.Context(), parse(t, bootstrapToken))
		if err != nil || f.Verdict() != test.want {
			t.Errorf("%d times %d: got %+v, %v, want %s", test.refusals, test.status, f, err, test.want)
		}
	}
}

func TestTheContextEndsTheWaiting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	u, w := newK3s(t, &k3s{}, func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		time.AfterFunc(50*time.Millisecond, cancel)
		return true
	})
	opts := quick(otherHash)
	opts.Backoff.Duration = time.Hour
	if _, err := supervisor.Connect(ctx, u, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a cancellation", err)
	}
	w.sawNothing(t)
}

func TestAProxySeesNoCredentials(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // not to be used
	k := &k3s{}
	u, _ := newK3s(t, k, nil)
	target := strings.TrimPrefix(u.String(), "https://")
	w := &witness{}
	proxy := serveTCP(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil || r.Method != http.MethodConnect || r.Host != target {
			t.Errorf("the proxy was sent %v, %v", r, err)
			return
		}
		w.saw(r)
		server, err := new(net.Dialer).DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(conn, server) }()
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	})
	opts := quick(k.hash)
	opts.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: strings.TrimPrefix(proxy.String(), "https://")})
	report, err := supervisor.Verify(t.Context(), u, parse(t, serverPassword), opts)
	if err != nil || "https://"+report.Remote != proxy.String() || !connect(t, u, opts).Proxied() {
		t.Errorf("got %+v, %v", report, err)
	}
	w.sawNothing(t)
}

func TestProxiesThatDoNotConnectAreNamed(t *testing.T) {
	t.Parallel()
	refusing := serveTCP(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 407 \x1b[2J\r\n\r\n")
	})
	through := func(proxy string) func(*http.Request) (*url.URL, error) {
		return http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("me", serverPassword), Host: strings.TrimPrefix(proxy, "https://")})
	}
	for says, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"the proxy refuses to connect (status 407)": through(refusing.String()),
		"cannot reach the proxy for s1.invalid:443": through(nobody),
		"the proxy setting is malformed":            func(*http.Request) (*url.URL, error) { return nil, errors.New(serverPassword) },
	} {
		opts := quick(otherHash)
		opts.Proxy = proxy
		_, err := supervisor.Connect(t.Context(), parseURL(t, "https://s1.invalid"), opts)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error that says %q", err, says)
		}
		checkError(t, err)
	}
}

func TestRequestsAreLoggedWithoutSecrets(t *testing.T) { // not parallel: klog has one verbosity
	defer klog.CaptureState().Restore()
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Parse([]string{"-v=9", "-logtostderr=false"})
	var log bytes.Buffer
	klog.SetOutput(&log)
	k := &k3s{}
	u, _ := newK3s(t, k, nil)
	s := connect(t, u, quick(k.hash))
	for _, credentials := range joining {
		if _, err := s.Probe(t.Context(), parse(t, "K10"+k.hash+"::"+credentials)); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.Rotate(t.Context(), parse(t, serverPassword), newPassword); r.Err != nil {
		t.Fatal(r.Err)
	}
	klog.Flush()
	if text := log.String(); holdsSecret(text) || !strings.Contains(text, u.String()+"/v1-k3s/token") {
		t.Errorf("a secret, or no request in the log:\n%s", text)
	}
}
