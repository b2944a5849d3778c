package supervisor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// roles are the roles of joining nodes. What is expected of them is in this order.
var roles = []supervisor.Role{supervisor.Agent, supervisor.Server}

type (
	verdicts [2]supervisor.Verdict
	says     [2]string // in the error or its hint
)

func TestVerdictsByRole(t *testing.T) {
	t.Parallel()
	const accepted, refused, forbidden = supervisor.Accepted, supervisor.Refused, supervisor.Forbidden
	const serverToken = "K10::server:" + serverPassword
	for name, test := range map[string]struct {
		token    string
		server   *k3s
		verdicts verdicts
		says     says
	}{
		"bootstrap token":             {bootstrapToken, &k3s{}, verdicts{accepted, forbidden}, says{"", "bootstrap tokens join agents only"}},
		"unknown bootstrap token":     {"zzzzzz.0123456789abcdef", &k3s{}, verdicts{refused, refused}, says{"not expired or deleted", ""}},
		"server token":                {serverToken, &k3s{}, verdicts{accepted, accepted}, says{}},
		"server token, older release": {serverToken, &k3s{older: true}, verdicts{accepted, accepted}, says{}},
		"server token, own agent token": {
			serverToken, &k3s{ownAgent: true}, verdicts{refused, accepted},
			says{"its agent token if it has one", "both: --token and --agent-token"},
		},
		"agent token":                   {"K10::node:" + agentPassword, &k3s{}, verdicts{accepted, refused}, says{"", "use the server token"}},
		"a user that nodes do not send": {"K10::me:" + serverPassword, &k3s{}, verdicts{accepted, accepted}, says{}},
	} {
		k := test.server.start(t)
		for i, role := range roles {
			report := verify(t, k.url, test.token, role, quick(k.hash))
			if report.Verdict != test.verdicts[i] || len(report.Steps) != stepCredentials {
				t.Errorf("%s, %s: got %+v, want %s", name, role, report, test.verdicts[i])
			}
			if joins := test.verdicts[i] == accepted && test.says[i] == ""; joins != (report.Err == nil) {
				t.Errorf("%s, %s: got %v", name, role, report.Err)
			} else if !joins {
				checkError(t, report.Err, test.says[i])
			}
		}
		if len(k.rotated) != 0 {
			t.Errorf("%s: the token was rotated", name)
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
		{http.StatusTooManyRequests, 4, supervisor.Busy},
		{http.StatusServiceUnavailable, 4, supervisor.Busy},
		{http.StatusInternalServerError, 1, supervisor.Unexpected},
	} {
		var asked atomic.Int32
		k := (&k3s{front: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" || asked.Add(1) > test.refusals {
				return false
			}
			w.WriteHeader(test.status)
			return true
		}}).start(t)
		if report := verify(t, k.url, bootstrapToken, supervisor.Agent, quick(k.hash)); report.Verdict != test.want {
			t.Errorf("%d times %d: got %+v, want %s", test.refusals, test.status, report, test.want)
		}
	}
}

func pool(cas ...*identity) *x509.CertPool {
	p := x509.NewCertPool()
	for _, ca := range cas {
		p.AddCert(ca.cert)
	}
	return p
}

// TestACAThatTheHashDoesNotVouchForIsNotTrusted has servers that nodes send the token to in
// one of their roles. The tests on the real K3s have more of them.
func TestACAThatTheHashDoesNotVouchForIsNotTrusted(t *testing.T) {
	t.Parallel()
	const accepted, notSent, unproved = supervisor.Accepted, supervisor.NotSent, supervisor.Unproved
	ours, evil := newCA(t, nil), newCA(t, nil)
	good, bad, intermediate := issue(t, ours), issue(t, evil), newCA(t, ours)
	rotated := bundle(intermediate, ours, evil) // its hash is that of the root ours
	for name, test := range map[string]struct {
		cert     tls.Certificate
		bundle   []byte
		context  []byte
		hostCAs  *x509.CertPool
		verdicts verdicts
		says     says
	}{
		"a name that is not in the certificate": {
			good, bundle(ours), nil, pool(),
			verdicts{accepted, notSent}, says{"", "or start the server with --tls-san localhost"},
		},
		"TLS ends in between": {
			issue(t, evil, named("localhost")), bundle(ours), nil, pool(evil),
			verdicts{notSent, unproved}, says{"let the load balancer pass TLS through", "not signed by the trusted CA"},
		},
		"a CA that is appended to the bundle": {
			bad, rotated, bundle(intermediate, ours), pool(),
			verdicts{unproved, notSent}, says{"delete Secret kube-system/k3s-serving", "not for localhost"},
		},
		"a rotated CA that the context vouches for": {bad, rotated, rotated, pool(), verdicts{accepted, notSent}, says{}},
	} {
		k := (&k3s{certs: []tls.Certificate{test.cert}, bundles: [][]byte{test.bundle}}).start(t)
		u := parseURL(t, strings.Replace(k.url.String(), "127.0.0.1", "localhost", 1))
		opts := quick(k.hash)
		opts.HostCAs, opts.ContextCA = test.hostCAs, func(context.Context) []byte { return test.context }
		for i, role := range roles {
			report := verify(t, u, serverPassword, role, opts)
			if report.Verdict != test.verdicts[i] {
				t.Errorf("%s, %s: got %+v, want %s", name, role, report, test.verdicts[i])
			}
			if report.Verdict != accepted {
				checkError(t, report.Err, test.says[i])
			}
		}
		if test.verdicts[0] != accepted {
			k.sawNothing(t)
		}
		opts.ServerName = "127.0.0.1" // a client of its own with the name that agents expect
		if _, err := supervisor.Connect(t.Context(), u, opts); (err == nil) != (test.verdicts[0] == accepted) {
			t.Errorf("%s, a client of its own: %v", name, err)
		}
	}
}
