package supervisor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestACAHashDecidesWhomToTrust(t *testing.T) {
	t.Parallel()
	k := (&k3s{}).start(t)
	for _, test := range []struct {
		name, hash   string
		context      []byte
		trustUnknown bool
		compared     string
		says         string
	}{
		{"none", "", bundle(newCA(t, nil)), false, supervisor.Failed, "has no CA hash"},
		{"another", otherHash, nil, true, supervisor.Failed, "the token is for another CA; "},
		{"all but its end", k.hash[:63] + "x", nil, true, supervisor.Failed, "the token is for another CA; "},
		{"the context's", otherHash, k.bundles[0], true, supervisor.Failed, "the server is the context's"},
		{"its own", k.hash, nil, false, supervisor.Passed, ""},
		{"none, but the context's", "", k.bundles[0], false, supervisor.Passed, ""},
		{"none, and anybody is trusted", "", nil, true, supervisor.Skipped, ""},
	} {
		opts := quick()
		opts.ContextCA, opts.TrustUnknownServer = func(context.Context) []byte { return test.context }, test.trustUnknown
		report := supervisor.Verify(t.Context(), k.url, parse(t, test.hash, bootstrapToken), supervisor.Agent, opts)
		if report.Steps[stepCompare-1].Status != test.compared || (report.Err == nil) != (test.says == "") {
			t.Errorf("%s: got %+v", test.name, report)
		}
		if test.says != "" {
			checkError(t, report.Err, test.says)
			k.sawNothing(t) // accepted ones come last
		}
	}
}

func TestAConnectionThatFailsIsExplained(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hijack(w, "HTTP/1.1 407 \x1b[2J\r\n\r\n")
	}))
	defer proxy.Close()
	refusing, _ := url.Parse(proxy.URL)
	down := &url.URL{Scheme: "http", User: url.UserPassword("me", serverPassword), Host: "127.0.0.1:1"}
	for says, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"the proxy refuses to connect (status 407)": http.ProxyURL(refusing),
		"cannot reach the proxy for 127.0.0.1:":     http.ProxyURL(down),
		"the proxy setting is malformed":            func(*http.Request) (*url.URL, error) { return nil, errors.New(serverPassword) },
	} {
		opts := quick()
		opts.Proxy, opts.ProxyHint = proxy, "check proxy-url"
		_, err := supervisor.Connect(t.Context(), parseURL(t, nobody), parse(t, otherHash, serverPassword), opts)
		checkError(t, err, says)
	}
	plain := parseURL(t, strings.Replace(proxy.URL, "http:", "https:", 1))
	_, err := supervisor.Connect(t.Context(), plain, parse(t, otherHash, serverPassword), quick())
	checkError(t, err, "does not speak TLS")
}

// TestTheStatusIsTheVerdict has a server that answers to the token with a status some
// times, and then accepts it.
func TestTheStatusIsTheVerdict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		role   supervisor.Role
		status int
		times  int32
		want   supervisor.Verdict
	}{
		{supervisor.Agent, http.StatusUnauthorized, 1, supervisor.Refused},
		{supervisor.Server, http.StatusForbidden, 1, supervisor.Forbidden},
		{supervisor.Server, http.StatusOK, 1, supervisor.Unexpected},
		{supervisor.Server, http.StatusBadRequest, 1, supervisor.Accepted}, // older releases
		{supervisor.Agent, http.StatusTooManyRequests, 3, supervisor.Accepted},
		{supervisor.Agent, http.StatusTooManyRequests, 4, supervisor.Busy},
		{supervisor.Agent, http.StatusServiceUnavailable, 4, supervisor.Busy},
		{supervisor.Agent, http.StatusInternalServerError, 1, supervisor.Unexpected},
	} {
		var asked atomic.Int32
		k := (&k3s{front: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" || asked.Add(1) > test.times {
				return false
			}
			w.WriteHeader(test.status)
			return true
		}}).start(t)
		report := supervisor.Verify(t.Context(), k.url, parse(t, k.hash, serverPassword), test.role, quick())
		if report.Verdict != test.want || len(report.Steps) != stepCredentials || len(k.rotated) > 0 {
			t.Errorf("%d times %d: got %+v, want %s", test.times, test.status, report, test.want)
		}
		if test.want != supervisor.Accepted {
			checkError(t, report.Err, string(test.want))
		}
	}
}

// TestACAThatTheHashDoesNotVouchForIsNotTrusted appends a CA to the bundle, which changes
// no hash. Only the context's own bundle can vouch for it.
func TestACAThatTheHashDoesNotVouchForIsNotTrusted(t *testing.T) {
	t.Parallel()
	ours, evil := newCA(t, nil), newCA(t, nil)
	intermediate := newCA(t, &ours)
	shown, appended := bundle(intermediate, ours), bundle(intermediate, ours, evil)
	for _, trusted := range [][]byte{nil, shown, appended} {
		k := (&k3s{certs: []tls.Certificate{issue(t, evil)}, bundles: [][]byte{appended}}).start(t)
		opts := quick()
		opts.ContextCA = func(context.Context) []byte { return trusted }
		report := supervisor.Verify(t.Context(), k.url, parse(t, k.hash, serverPassword), supervisor.Agent, opts)
		if bytes.Equal(trusted, appended) {
			if report.Verdict != supervisor.Accepted {
				t.Errorf("got %+v", report)
			}
			continue
		}
		if checkError(t, report.Err, "delete Secret kube-system/k3s-serving"); report.Verdict != supervisor.Unproved {
			t.Errorf("got %+v", report)
		}
		k.sawNothing(t)
	}
}
