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
)

// Advice that several errors share.
const (
	noProxy    = "use the address of the K3s server itself, not of a proxy such as Rancher"
	checkPort  = "check that this is the port of a running K3s server; RKE2 has port 9345"
	checkProxy = "check HTTPS_PROXY, or add the server to NO_PROXY"
	tryAgain   = "try again in a moment"
)

// ErrUnverified is returned if there is no CA hash to verify the server with,
// and Options.TrustUnknownServer is false.
var ErrUnverified = newError("the token has no CA hash to verify the server with",
	"use a token in secure format, a kubeconfig context of that cluster, or --insecure-trust-server")

var errURL = newError("the server URL is malformed", "write https://<host>:<port>, with an IPv6 address in brackets")

// hintedError is an error with advice.
type hintedError struct{ text, hint string }

func newError(text, hint string) error { return &hintedError{text, hint} }

func (e *hintedError) Error() string { return e.text }
func (e *hintedError) Hint() string  { return e.hint }

// HashMismatchError is returned if the server has another CA than the token.
type HashMismatchError struct {
	Token, Server string // the two CA hashes
}

func (e *HashMismatchError) Error() string {
	return fmt.Sprintf("the token is for CA %.12s..., the server has CA %.12s...", e.Token, e.Server)
}

// Hint returns advice for the user.
func (e *HashMismatchError) Hint() string {
	return "check that server and token are of one cluster, and that its CA was not replaced since"
}

// explain replaces an error of net/http, whose text may quote what the server
// or a proxy sent.
func explain(ctx context.Context, server URL, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	if own, ok := errors.AsType[*hintedError](err); ok {
		return own
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return explainCertificate(server, certificate)
	}
	address := server.hostPort()
	var op string
	if e, ok := errors.AsType[*net.OpError](err); ok {
		op = e.Op
	}
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case op == "proxyconnect" || op == "socks connect":
		return newError("cannot reach the proxy for "+address, checkProxy)
	case utilnet.IsTimeout(err):
		return newError(address+" did not answer in time", "check address and firewall, or allow more time")
	case utilnet.IsConnectionRefused(err):
		return newError("nothing listens on "+address, "check the address, and that the server is running")
	case op == "dial":
		return newError("cannot reach "+address, "check the address, its DNS name and the network")
	case plain, errors.Is(err, http.ErrSchemeMismatch), op == "remote error", op == "local error": // alerts of crypto/tls
		return newError(address+" does not speak TLS 1.2 or newer", checkPort)
	}
	return newError(address+" gave no complete, valid answer", checkPort)
}

func explainCertificate(server URL, err error) error {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names, addresses := e.Certificate.DNSNames, e.Certificate.IPAddresses
		return newError("the server's certificate is not for "+server.host, fmt.Sprintf("connect to one of %q %v, or start the server with --tls-san %s",
			names[:min(len(names), 8)], addresses[:min(len(addresses), 8)], server.host))
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return newError("the server's certificate is not signed by the trusted CA",
			"check that nothing answers in place of the server, and restart it if its CA was rotated")
	}
	return newError("the server's certificate has expired or is not valid", "check the clocks, and restart the server to renew its certificate")
}
