package supervisor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// named makes a certificate for names in place of 127.0.0.1.
func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = names, nil }
}

func pool(cas ...*identity) *x509.CertPool {
	p := x509.NewCertPool()
	for _, ca := range cas {
		p.AddCert(ca.cert)
	}
	return p
}

// TestWhatStandsBetweenDependsOnTheRole has conditions that public reports describe.
func TestWhatStandsBetweenDependsOnTheRole(t *testing.T) {
	t.Parallel()
	const accepted, notSent, unproved = supervisor.Accepted, supervisor.NotSent, supervisor.Unproved
	l := newLab(t)
	public, intermediate := newCA(t, nil), newCA(t, l.ours)
	rotated := bundle(intermediate, l.ours, l.evil) // whose hash is that of the root l.ours
	for name, test := range map[string]struct {
		cert          tls.Certificate
		bundle        []byte // else that of l.ours
		context       []byte
		hostCAs       *x509.CertPool
		hash          string
		agent, server supervisor.Verdict
		trusts        string    // the roles in which the host trusts the server
		says          [2]string // in the error or hint of agent and server
	}{
		"a load balancer whose address is not in the certificate": {
			cert: l.good, agent: accepted, server: notSent, says: [2]string{"", `connect to one of [] [127.0.0.1], or start the server with --tls-san localhost`},
		},
		"TLS ends in between, with a certificate that the host trusts": {
			cert: issue(t, public, named("localhost")), hostCAs: pool(public), agent: notSent, server: unproved, trusts: "server",
			says: [2]string{"let the load balancer pass TLS through", "not signed by the trusted CA"},
		},
		"TLS ends in between, with a trusted certificate for 127.0.0.1": {
			cert: issue(t, public), hostCAs: pool(public), agent: unproved, server: notSent, trusts: "agent",
			says: [2]string{"not signed by the trusted CA", "not for localhost"},
		},
		"another cluster that the host trusts": {
			cert: l.good, hash: otherHash, hostCAs: pool(l.ours), agent: unproved, server: notSent, trusts: "agent", says: [2]string{"the token is for CA", "the token is for CA"},
		},
		"a cluster that the host trusts": {cert: l.good, hostCAs: pool(l.ours), agent: accepted, server: notSent, trusts: "agent"},
		"a rotated CA and the old certificate": {
			cert: l.bad, bundle: rotated, agent: unproved, server: notSent, says: [2]string{"delete Secret kube-system/k3s-serving", "not for localhost"},
		},
		"a rotated CA that the context vouches for":       {cert: l.bad, bundle: rotated, context: rotated, agent: accepted, server: notSent},
		"a context that vouches for some of the CAs only": {cert: l.bad, bundle: rotated, context: bundle(intermediate, l.ours), agent: unproved, server: notSent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &k3s{bundle: test.bundle}
			if k.bundle == nil {
				k.bundle = l.shown
			}
			w := &witness{}
			u := parseURL(t, strings.Replace(serve(t, w, k, always(test.cert)).String(), "127.0.0.1", "localhost", 1))
			opts := quick(test.hash)
			if test.hash == "" {
				opts.CAHash = hashOf(t, k.bundle)
			}
			opts.ContextCA = func(context.Context) []byte { return test.context }
			if opts.HostCAs = test.hostCAs; test.hostCAs == nil {
				opts.HostCAs = pool()
			}
			for i, want := range []supervisor.Verdict{test.agent, test.server} {
				role := []supervisor.Role{supervisor.Agent, supervisor.Server}[i]
				report := verify(t, u, serverPassword, role, opts)
				if report.Verdict != want || report.HostTrusts != (test.trusts == string(role)) {
					t.Errorf("%s: got %+v, want %s", role, report, want)
				}
				if want != accepted {
					checkError(t, report.Err, test.says[i])
				}
			}
			opts.ServerName = "127.0.0.1" // a client of its own with the name that agents expect
			if _, err := supervisor.Connect(t.Context(), u, opts); (err == nil) != (test.agent == accepted) {
				t.Errorf("a client of its own: %v", err)
			}
			if test.agent != accepted && test.server != accepted {
				w.sawNothing(t)
			}
		})
	}
}

// TestAnAgentSendsNoServerName has a load balancer that routes by server name.
func TestAnAgentSendsNoServerName(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cert := issue(t, l.ours, func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	router := httptest.NewUnstartedServer(&k3s{bundle: l.shown})
	router.Config.ErrorLog = log.New(io.Discard, "", 0)
	router.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != "localhost" {
			return nil, errors.New("no such server")
		}
		return nil, nil //nolint:nilnil // the configuration as it is
	}}
	router.StartTLS()
	t.Cleanup(router.Close)
	u := parseURL(t, strings.Replace(router.URL, "127.0.0.1", "localhost", 1))
	hash := hashOf(t, l.shown)
	if report := verify(t, u, serverPassword, supervisor.Server, quick(hash)); report.Err != nil {
		t.Error(report.Err)
	}
	checkError(t, verify(t, u, serverPassword, supervisor.Agent, quick(hash)).Err, "answers only to clients that name it (SNI)")
}
