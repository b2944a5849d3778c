package supervisor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func connect(t *testing.T, u URL, opts Options) *Session {
	t.Helper()
	s, err := Connect(t.Context(), u, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// statuses is how the steps ended, in order.
func statuses(steps []Step) string {
	var out []string
	for _, step := range steps {
		out = append(out, fmt.Sprintf("%d %s", step.Number, step.Status))
	}
	return strings.Join(out, ", ")
}

func TestConnectTakesTheStepsInOrder(t *testing.T) {
	t.Parallel()
	k, _, u, w := newK3s(t)
	opts := quick(hashOf(t, k.bundle))
	var steps []Step
	opts.Observe = func(s Step) { steps = append(steps, s) }
	s := connect(t, u, opts)
	if got, want := statuses(steps), "1 passed, 2 passed, 3 passed, 4 passed"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if steps[1].Detail != s.CAHash() || s.CAHash() != opts.CAHash {
		t.Errorf("the hash is %s and %s, want %s", steps[1].Detail, s.CAHash(), opts.CAHash)
	}
	if s.Distribution() != K3s || s.Remote() != u.HostPort() {
		t.Errorf("got %s, %s", s.Distribution(), s.Remote())
	}
	w.sawNothing(t)
}

func TestConnectFindsOutTheDistribution(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, program, organization string
		any                         bool
		want                        Distribution
	}{
		{name: "k3s", program: "k3s", organization: "k3s", want: K3s},
		{name: "rke2", program: "rke2", organization: "rke2", want: RKE2},
		{name: "rke2 behind a certificate that does not say so", program: "rke2", organization: "acme", want: RKE2},
		{name: "rke2 of a release that answers to both", program: "rke2", organization: "rke2", any: true, want: RKE2},
		{name: "k3s of a release that answers to both", program: "k3s", organization: "k3s", any: true, want: K3s},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ca := newCA(t, "ca", nil)
			k := &k3s{program: test.program, bundle: bundle(ca)}
			u, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.any {
					r.URL.Path = strings.Replace(strings.Replace(r.URL.Path, "rke2", test.program, 1), "k3s", test.program, 1)
				}
				k.ServeHTTP(w, r)
			}), always(ca.issue(t, leaf{organization: test.organization})))
			if got := connect(t, u, quick(hashOf(t, k.bundle))).Distribution(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestWithoutAHashTheServerMustBeTrustedExplicitly(t *testing.T) {
	t.Parallel()
	_, _, u, w := newK3s(t)
	if _, err := Verify(t.Context(), u, parse(t, bootstrapToken), quick("")); !errors.Is(err, ErrUnverified) {
		t.Errorf("got %v, want %v", err, ErrUnverified)
	}
	w.sawNothing(t)

	opts := quick("")
	opts.TrustUnknownServer = true
	report, err := Verify(t.Context(), u, parse(t, bootstrapToken), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := statuses(report.Steps), "1 passed, 2 passed, 3 skipped, 4 passed, 5 passed"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !strings.Contains(report.Steps[2].Detail, "identity is not verified") {
		t.Errorf("step 3 says %q", report.Steps[2].Detail)
	}
}

func TestTrustingAnUnknownServerDoesNotTrustTheWrongOne(t *testing.T) {
	t.Parallel()
	_, _, u, w := newK3s(t)
	opts := quick(strings.Repeat("0", 64))
	opts.TrustUnknownServer = true
	var mismatch *HashMismatchError
	if _, err := Connect(t.Context(), u, opts); !errors.As(err, &mismatch) || mismatch.Token != opts.CAHash || len(mismatch.Server) != 64 {
		t.Errorf("got %v, want a mismatch", err)
	}
	w.sawNothing(t)
}

func TestAShortTokenTakesTheHashOfTheOptions(t *testing.T) {
	t.Parallel()
	k, _, u, _ := newK3s(t)
	if _, err := Verify(t.Context(), u, parse(t, bootstrapToken), quick(hashOf(t, k.bundle))); err != nil {
		t.Error(err)
	}
}

func TestATokensOwnHashGoesFirst(t *testing.T) {
	t.Parallel()
	k, _, u, w := newK3s(t)
	tok := parse(t, bootstrapToken).WithCAHash(strings.Repeat("0", 64))
	var mismatch *HashMismatchError
	if _, err := Verify(t.Context(), u, tok, quick(hashOf(t, k.bundle))); !errors.As(err, &mismatch) {
		t.Errorf("got %v, want a mismatch", err)
	}
	w.sawNothing(t)
}

// publicServer is a supervisor behind a certificate of a CA that is not the
// cluster's.
func publicServer(t *testing.T) (u URL, w *witness, clusterHash string, public *x509.CertPool) {
	t.Helper()
	ca, publicCA := newCA(t, "k3s-server-ca", nil), newCA(t, "public", nil)
	k := &k3s{program: "k3s", bundle: bundle(ca)}
	u, w = serve(t, k, always(publicCA.issue(t, leaf{})))
	public = x509.NewCertPool()
	public.AddCert(publicCA.cert)
	return u, w, hashOf(t, k.bundle), public
}

func TestSystemRootsAreEnoughOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	other := strings.Repeat("0", 64)
	for _, test := range []struct {
		name  string
		hash  func(shown string) string
		step  int
		steps string
	}{
		{"hash of the bundle", func(shown string) string { return shown }, StepValidate, "1 passed, 2 passed, 3 passed, 4 passed, 5 passed"},
		{"another hash", func(string) string { return other }, StepCompare, "1 passed, 2 passed, 3 skipped, 4 passed, 5 passed"},
		{"no hash", func(string) string { return "" }, StepCompare, "1 passed, 2 passed, 3 skipped, 4 passed, 5 passed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u, w, hash, public := publicServer(t)
			tok := parse(t, bootstrapToken)
			opts := quick(test.hash(hash))

			var step *StepError
			if _, err := Verify(t.Context(), u, tok, opts); !errors.As(err, &step) || step.Step != test.step || errors.Is(err, ErrPubliclyTrusted) {
				t.Errorf("without system roots: got %v", err)
			}
			opts.SystemRoots = public
			if _, err := Verify(t.Context(), u, tok, opts); !errors.Is(err, ErrPubliclyTrusted) || !errors.As(err, &step) || step.Step != test.step {
				t.Errorf("with system roots to look at: got %v", err)
			}
			opts.SystemRoots, opts.TrustSystemRoots = x509.NewCertPool(), true
			if _, err := Verify(t.Context(), u, tok, opts); !errors.As(err, &step) || step.Step != test.step || errors.Is(err, ErrPubliclyTrusted) {
				t.Errorf("with system roots that know others: got %v", err)
			}
			w.sawNothing(t)

			opts.SystemRoots = public
			report, err := Verify(t.Context(), u, tok, opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := statuses(report.Steps); got != test.steps {
				t.Errorf("got %s, want %s", got, test.steps)
			}
			if !strings.Contains(report.Steps[3].Detail, "CA bundle of this computer") {
				t.Errorf("step 4 says %q", report.Steps[3].Detail)
			}
		})
	}
}

func TestTheHashGoesBeforeTheSystemRoots(t *testing.T) {
	t.Parallel()
	k, ca, u, _ := newK3s(t)
	opts := quick(hashOf(t, k.bundle))
	opts.SystemRoots = x509.NewCertPool()
	opts.SystemRoots.AddCert(ca.cert)
	report, err := Verify(t.Context(), u, parse(t, bootstrapToken), opts)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(report.Steps[3].Detail, "this computer") {
		t.Errorf("step 4 says %q", report.Steps[3].Detail)
	}
}

func TestBundlesOfCustomCAsAreTrusted(t *testing.T) {
	t.Parallel()
	root := newCA(t, "root", nil)
	intermediate := newCA(t, "intermediate", root)
	issuing := newCA(t, "k3s-server-ca", intermediate)
	stranger := newCA(t, "stranger", nil)
	for _, test := range []struct {
		name   string
		bundle []byte
		detail string
	}{
		{"chain", bundle(issuing, intermediate, root), "the hashes are equal"},
		{"chain with another root", bundle(issuing, intermediate, root, stranger), "1 of the bundle's certificates are not below the hashed root"},
		{"chain without its root, hashed literally", bundle(issuing, intermediate), "the hashes are equal"},
		{"comment before the certificate", append([]byte("# the CA\n"), bundle(issuing)...), "the hashes are equal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u, _ := serve(t, &k3s{program: "k3s", bundle: test.bundle}, always(issuing.issue(t, leaf{})))
			report, err := Verify(t.Context(), u, parse(t, bootstrapToken), quick(hashOf(t, test.bundle)))
			if err != nil {
				t.Fatal(err)
			}
			if got := report.Steps[2].Detail; !strings.Contains(got, test.detail) {
				t.Errorf("step 3 says %q, want %q", got, test.detail)
			}
		})
	}
}

func TestBusyServersAreAskedAgainWithinBounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		retryAfter string
		refusals   int
		want       []time.Duration
		ok         bool
	}{
		{"once", "1", 1, []time.Duration{time.Second}, true},
		{"no Retry-After", "", 3, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}, true},
		{"a Retry-After of days", "999999", 1, []time.Duration{maxWait}, true},
		{"a negative Retry-After", "-3", 1, []time.Duration{500 * time.Millisecond}, true},
		{"a date in the past", "Mon, 02 Jan 2006 15:04:05 GMT", 1, []time.Duration{0}, true},
		{"for ever", "0", 99, []time.Duration{0, 0, 0}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ca := newCA(t, "ca", nil)
			k := &k3s{program: "k3s", bundle: bundle(ca)}
			refused := 0
			u, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/readyz") && r.Header.Get("Authorization") != "" && refused < test.refusals {
					refused++
					w.Header().Set("Retry-After", test.retryAfter)
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				k.ServeHTTP(w, r)
			}), always(ca.issue(t, leaf{})))
			var waits []time.Duration
			opts := quick(hashOf(t, k.bundle))
			opts.Sleep = func(_ context.Context, d time.Duration) error {
				waits = append(waits, d)
				return nil
			}
			f, err := connect(t, u, opts).Probe(t.Context(), parse(t, bootstrapToken))
			if err != nil {
				t.Fatal(err)
			}
			if f.JoinsAgents() != test.ok || !test.ok && f.Verdict() != Busy {
				t.Errorf("found %+v", f)
			}
			if !slices.Equal(waits, test.want) {
				t.Errorf("waited %v, want %v", waits, test.want)
			}
		})
	}
}

func TestTheContextEndsTheWaiting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	u, w := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		time.AfterFunc(50*time.Millisecond, cancel)
	}), always(newCA(t, "ca", nil).issue(t, leaf{})))
	began := time.Now()
	if _, err := Connect(ctx, u, Options{CAHash: liveHash}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a cancellation", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	w.sawNothing(t)
}

func TestSleepLastsAsLongAsItIsTold(t *testing.T) {
	t.Parallel()
	began := time.Now()
	if err := sleep(t.Context(), 20*time.Millisecond); err != nil || time.Since(began) < 20*time.Millisecond {
		t.Errorf("slept %s, %v", time.Since(began), err)
	}
}

func TestOneServerIsPinnedForTheWholeSession(t *testing.T) {
	t.Parallel()
	p := &pin{}
	p.set("192.0.2.1:6443")
	p.set("192.0.2.2:6443")
	if got := p.get(); got != "192.0.2.1:6443" {
		t.Errorf("pinned %s", got)
	}
}

func TestTheProxyIsTheOneOfTheOptions(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	k, _, u, _ := newK3s(t)
	opts := quick(hashOf(t, k.bundle))
	connect(t, u, opts)

	asked := 0
	opts.Proxy = func(r *http.Request) (*url.URL, error) {
		asked++
		if r.URL.Host != u.HostPort() {
			t.Errorf("asked for a proxy to %s", r.URL)
		}
		return nil, nil
	}
	if connect(t, u, opts).Proxied() {
		t.Error("the session goes through a proxy that is none")
	}
	if asked == 0 {
		t.Error("the proxy of the options was not asked for")
	}
}

func TestAProxySeesNoCredentials(t *testing.T) {
	t.Parallel()
	k, _, u, _ := newK3s(t)
	proxy, w := serveRaw(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		r, err := http.ReadRequest(reader)
		if err != nil || r.Method != http.MethodConnect || r.Host != u.HostPort() {
			t.Errorf("the proxy was sent %v, %v", r, err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		server, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.HostPort())
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			_, _ = io.Copy(server, reader)
			_ = server.Close()
		}()
		_, _ = io.Copy(conn, server)
	})
	opts := quick(hashOf(t, k.bundle))
	opts.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: proxy.HostPort()})
	report, err := Verify(t.Context(), u, parse(t, serverPassword), opts)
	if err != nil {
		t.Fatal(err)
	}
	if report.Remote != proxy.HostPort() {
		t.Errorf("went to %s, not to the proxy", report.Remote)
	}
	if !connect(t, u, opts).Proxied() {
		t.Error("the session does not know of its proxy")
	}
	w.sawNothing(t)
}

func TestProxiesThatDoNotConnectAreNamed(t *testing.T) {
	t.Parallel()
	refusing, _ := serveRaw(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 407 \x1b[2J\r\n\r\n")
	})
	l := listen(t)
	gone := address(t, l)
	_ = l.Close()
	for proxy, says := range map[URL]string{refusing: "status 407", gone: "the proxy in front of s1.invalid:6443 cannot be reached"} {
		opts := quick(liveHash)
		opts.Proxy = http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("me", serverPassword), Host: proxy.HostPort()})
		u, err := K3s.URL("s1.invalid")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Connect(t.Context(), u, opts)
		if err == nil || !strings.Contains(err.Error(), says) || printable(err.Error()) != err.Error() {
			t.Errorf("got %v, want an error that says %q", err, says)
		}
		noSecretIn(t, err)
	}
}

func TestSessionsSpeakNothingOlderThanTLS12(t *testing.T) {
	t.Parallel()
	w := &wire{remote: &pin{}, now: time.Now}
	for name, transport := range map[string]*http.Transport{"unverified": w.unverified(), "verified": w.verified(nil, true)} {
		if got := transport.TLSClientConfig.MinVersion; got != tls.VersionTLS12 {
			t.Errorf("%s: the oldest is %x", name, got)
		}
		if transport.Protocols.HTTP2() || !transport.Protocols.HTTP1() {
			t.Errorf("%s: speaks %s", name, transport.Protocols)
		}
	}
	if w.verified(nil, true).TLSClientConfig.RootCAs == nil {
		t.Error("no roots means the computer's roots")
	}
}
