package supervisor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// Advice that several errors share.
const (
	noProxy   = "use the address of the K3s server itself, not of a proxy such as Rancher"
	checkPort = "check that this is the port of a running K3s server; RKE2 has port 9345"
	tryAgain  = "try again in a moment"
)

// errUnverified is returned if there is no CA hash to verify the server with,
// and Options.TrustUnknownServer is false.
var errUnverified = hint.New("the token has no CA hash to verify the server with",
	"use a token in secure format, a kubeconfig context of that cluster, or --insecure-trust-server")

// errMismatch says that the server has another CA than the token. trusted is the hash of
// the context's CA, or "".
func errMismatch(token, server, trusted string) error {
	advice := "check that server and token are of one cluster, and that its CA was not replaced since"
	switch trusted {
	case token:
		advice = "the token is the context's, and the server is not: check the address"
	case server:
		advice = "the server is the context's, so the token is another cluster's, or older than the CA"
	}
	return hint.New("the token is for another CA; the server's has the hash "+server, advice)
}

// errNotVouched says that only K3s itself trusts the server, since the CA of its
// certificate is in the bundle. K3s goes on using the certificate of the old CA after a
// rotation with the cross-signing script (k3s-io/k3s#13006).
var errNotVouched = hint.New("the server's certificate is of a CA that the hash does not vouch for",
	"if the CA was rotated, delete Secret kube-system/k3s-serving and server/tls/dynamic-cert.json, and restart the server")

// explain replaces an error of net/http. Its text may quote data of the server or of
// a proxy.
func (s *Session) explain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	if own, ok := errors.AsType[*hint.Error](err); ok {
		return own
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return s.explainCertificate(certificate)
	}
	address := s.server.hostPort()
	var op string
	if e, ok := errors.AsType[*net.OpError](err); ok {
		op = e.Op
	}
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case op == "proxyconnect" || op == "socks connect":
		return hint.New("cannot reach the proxy for "+address, s.opts.ProxyHint)
	case utilnet.IsTimeout(err):
		return hint.New(address+" did not answer in time", "check address and firewall, or allow more time")
	case utilnet.IsConnectionRefused(err):
		return hint.New("nothing listens on "+address, "check the address, and that the server is running")
	case op == "dial":
		return hint.New("cannot reach "+address, "check the address, its DNS name and the network")
	case plain, errors.Is(err, http.ErrSchemeMismatch), op == "remote error", op == "local error": // alerts of crypto/tls
		return hint.New(address+" does not speak TLS 1.2 or newer", checkPort)
	}
	return hint.New(address+" gave no complete, valid answer", checkPort)
}

func (s *Session) explainCertificate(err error) error {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names, addresses := e.Certificate.DNSNames, e.Certificate.IPAddresses
		advice := fmt.Sprintf("connect to one of %q %v, or start the server with --tls-san %s",
			names[:min(len(names), 8)], addresses[:min(len(addresses), 8)], s.server.host)
		if s.opts.Role == Agent {
			advice = "agents expect K3s's own certificate: let the load balancer pass TLS through to the servers"
		}
		return hint.New("the server's certificate is not for "+e.Host, advice)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return hint.New("the server's certificate is not signed by the trusted CA",
			"check that no load balancer ends TLS and nothing answers in place of the server; restart it if its CA was rotated")
	}
	return hint.New("the server's certificate has expired or is not valid", "check the clocks, and restart the server to renew its certificate")
}
