package supervisor_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestConnectFindsOutWhatTheServerIs(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]supervisor.Distribution{"k3s": supervisor.K3s, "rke2": supervisor.RKE2} {
		k := (&k3s{program: program}).start(t)
		if s := connect(t, k.url, quick(k.hash)); s.CAHash() != k.hash || "https://"+s.Remote() != k.url.String() || s.Proxied() {
			t.Errorf("got %s at %s", s.CAHash(), s.Remote())
		}
		k.sawNothing(t)
		report := verify(t, k.url, bootstrapToken, supervisor.Agent, quick(k.hash))
		if report.Err != nil || report.Distribution != want || report.CAHash != k.hash {
			t.Errorf("got %+v", report)
		}
	}
}

func TestACAHashDecidesWhomToTrust(t *testing.T) {
	t.Parallel()
	k := (&k3s{}).start(t)
	lastDigit := otherHash[:63] + "1"
	for _, test := range []struct {
		name, hash   string
		context      []byte
		trustUnknown bool
		compared     supervisor.Status
		says         string
	}{
		{"none", "", bundle(newCA(t, nil)), false, supervisor.Failed, "has no CA hash"},
		{"another", otherHash, nil, true, supervisor.Failed, "the token is for CA "},
		{"the context's", otherHash, k.bundles[0], true, supervisor.Failed, "the server is the context's"},
		{"a digit is wrong", k.hash[:40] + lastDigit[40:], nil, true, supervisor.Failed, "the token is for CA ...0000"},
		{"its own", k.hash, nil, false, supervisor.Passed, ""},
		{"none, but the context's", "", k.bundles[0], false, supervisor.Passed, ""},
		{"none, and anybody is trusted", "", nil, true, supervisor.Skipped, ""},
	} {
		opts := quick(test.hash)
		opts.ContextCA, opts.TrustUnknownServer = func(context.Context) []byte { return test.context }, test.trustUnknown
		report := verify(t, k.url, bootstrapToken, supervisor.Agent, opts)
		if report.Steps[stepCompare-1].Status != test.compared || (report.Err == nil) != (test.says == "") {
			t.Errorf("%s: got %+v", test.name, report)
		}
		if test.says != "" {
			checkError(t, report.Err, test.says)
			k.sawNothing(t) // accepted ones come last
		}
	}
}

// startProxy starts an HTTP proxy that leads to one server, or to none.
func startProxy(t *testing.T, server string) func(*http.Request) (*url.URL, error) {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upstream, err := new(net.Dialer).DialContext(r.Context(), "tcp", strings.TrimPrefix(server, "https://"))
		if err != nil {
			hijack(w, "HTTP/1.1 407 \x1b[2J\r\n\r\n")
			return
		}
		client, _, _ := http.NewResponseController(w).Hijack()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(client, upstream); _ = client.Close() }()
		_, _ = io.Copy(upstream, client)
		_ = upstream.Close()
	}))
	t.Cleanup(proxy.Close)
	proxyURL, _ := url.Parse(proxy.URL)
	return http.ProxyURL(proxyURL)
}

func TestAClientOfItsOwnUsesTheProxy(t *testing.T) {
	t.Parallel()
	k := (&k3s{}).start(t)
	down := &url.URL{Scheme: "http", User: url.UserPassword("me", serverPassword), Host: "127.0.0.1:1"}
	for says, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"": startProxy(t, k.url.String()),
		"the proxy refuses to connect (status 407)": startProxy(t, nobody),
		"cannot reach the proxy for 127.0.0.1:":     http.ProxyURL(down),
		"the proxy setting is malformed":            func(*http.Request) (*url.URL, error) { return nil, errors.New(serverPassword) },
	} {
		opts := quick(k.hash)
		opts.Proxy, opts.ProxyHint = proxy, "check proxy-url"
		s, err := supervisor.Connect(t.Context(), k.url, opts)
		if err != nil {
			checkError(t, err, says)
		} else if s.Close(); says != "" || !s.Proxied() {
			t.Errorf("no error that says %q, or no proxy is used", says)
		}
	}
}
