package supervisor

import "github.com/k3s-token/kubectl-k3s-token/pkg/hint"

// Advice that several errors share.
const (
	noProxy   = "use the address of the K3s server itself, not of a proxy such as Rancher"
	checkPort = "check that this is the port of a running K3s server; RKE2 has port 9345"
	tryAgain  = "try again in a moment"
	lastToken = "use the server token with which the server was last started"
)

// errUnverified is returned if there is no CA hash to verify the server with,
// and Options.TrustUnknownServer is false.
var errUnverified = hint.New("the token has no CA hash to verify the server with",
	"use a token in secure format, a kubeconfig context of that cluster, or --insecure-trust-server")

// errNotVouched says that only K3s itself trusts the server, since the CA of its
// certificate is in the bundle. K3s goes on using the certificate of the old CA after a
// rotation with the cross-signing script (k3s-io/k3s#13006).
var errNotVouched = hint.New("the server's certificate is of a CA that the hash does not vouch for",
	"if the CA was rotated, delete Secret kube-system/k3s-serving and server/tls/dynamic-cert.json, and restart the server")

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
