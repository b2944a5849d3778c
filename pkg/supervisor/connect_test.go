package supervisor_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const otherHash = "0000000000000000000000000000000000000000000000000000000000000000"

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
		report := verify(t, u, bootstrapToken, supervisor.Agent, quick(hash))
		if report.Err != nil || report.Distribution != want || report.CAHash != hash {
			t.Errorf("got %+v", report)
		}
	}
}

func TestACAHashDecidesWhomToTrust(t *testing.T) {
	t.Parallel()
	k := &k3s{}
	u, w := newK3s(t, k, nil)
	last := strings.Repeat("0", 63) + "1"
	for _, test := range []struct {
		name, hash   string
		context      []byte
		trustUnknown bool
		compared     supervisor.Status
		says         string
	}{
		{"none", "", bundle(newCA(t, nil)), false, supervisor.Failed, "has no CA hash"},
		{"another", otherHash, nil, true, supervisor.Failed, "the token is for CA "},
		{"the context's", otherHash, k.bundle, true, supervisor.Failed, "the server is the context's"},
		{"a digit is wrong", k.hash[:40] + last[:24], nil, true, supervisor.Failed, "the token is for CA ...0000"},
		{"its own", k.hash, nil, false, supervisor.Passed, ""},
		{"none, but the context's", "", k.bundle, false, supervisor.Passed, ""},
		{"none, and anybody is trusted", "", nil, true, supervisor.Skipped, ""},
	} {
		opts := quick(test.hash)
		opts.ContextCA, opts.TrustUnknownServer = func(context.Context) []byte { return test.context }, test.trustUnknown
		report := verify(t, u, bootstrapToken, supervisor.Agent, opts)
		if report.Steps[stepCompare-1].Status != test.compared || (report.Err == nil) != (test.says == "") {
			t.Errorf("%s: got %+v", test.name, report)
		}
		if test.says == "" {
			continue
		}
		checkError(t, report.Err, test.says)
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
		if report := verify(t, u, bootstrapToken, supervisor.Agent, quick(hashOf(t, shown))); report.Err != nil {
			t.Errorf("%s: %v", name, report.Err)
		}
	}
}

func TestNodesUseAProxyOnlyIfTheServerCannotBeReachedOtherwise(t *testing.T) {
	t.Parallel()
	k, w := &k3s{}, &witness{}
	u, _ := newK3s(t, k, nil)
	elsewhere, dead := parseURL(t, "https://s1.invalid:6443"), through(nobody)
	working := through(startProxy(t, w, u).String())
	for name, test := range map[string]struct {
		server  supervisor.URL
		role    supervisor.Role
		proxy   func(*http.Request) (*url.URL, error)
		verdict supervisor.Verdict
		says    string
	}{
		"an agent, directly":   {u, supervisor.Agent, dead, supervisor.Accepted, ""},
		"an agent, by a proxy": {elsewhere, supervisor.Agent, working, supervisor.Accepted, "only a proxy reaches it"},
		"neither works":        {elsewhere, supervisor.Agent, dead, supervisor.NotSent, "cannot reach s1.invalid:6443; cannot reach the proxy"},
		"no proxy":             {elsewhere, supervisor.Agent, nil, supervisor.NotSent, "cannot reach s1.invalid:6443"},
	} {
		opts := quick(k.hash)
		opts.Proxy, opts.ProxyHint = test.proxy, "check proxy-url"
		report := verify(t, test.server, serverPassword, test.role, opts)
		if report.Verdict != test.verdict || (report.Err == nil) != (test.says == "") {
			t.Errorf("%s: got %+v", name, report)
		}
		if report.Err != nil {
			checkError(t, report.Err, test.says)
		}
	}
	w.sawNothing(t)
}

func TestAClientOfItsOwnUsesTheProxy(t *testing.T) {
	t.Parallel()
	k := &k3s{}
	u, _ := newK3s(t, k, nil)
	refusing := serveTCP(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 407 \x1b[2J\r\n\r\n")
	})
	for says, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"": through(startProxy(t, &witness{}, u).String()),
		"the proxy refuses to connect (status 407)": through(refusing.String()),
		"cannot reach the proxy for 127.0.0.1:":     http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("me", serverPassword), Host: "127.0.0.1:1"}),
		"the proxy setting is malformed":            func(*http.Request) (*url.URL, error) { return nil, errors.New(serverPassword) },
	} {
		opts := quick(k.hash)
		opts.Proxy, opts.ProxyHint = proxy, "check proxy-url"
		s, err := supervisor.Connect(t.Context(), u, opts)
		if err != nil {
			checkError(t, err, says)
		} else if s.Close(); says != "" || !s.Proxied() {
			t.Errorf("no error that says %q, or no proxy is used", says)
		}
	}
}
