// Package supervisor is a client of the K3s supervisor, the service that
// joining nodes talk to. Connect verifies the identity of a server, Verify finds
// out whether a node can join, and Session.Rotate replaces the server token.
//
// Only a Session sends credentials, and only once the server has proved its identity.
package supervisor

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Role is that of a joining node, which decides how it connects.
//
// An agent connects through a load balancer of its own on 127.0.0.1, or ::1
// (createProxyAndValidateToken in K3s's pkg/agent/run.go). So it checks the server's
// certificate for that address, sends no server name (SNI), and uses no proxy. A server
// connects to the URL itself (shouldBootstrapLoad in pkg/cluster/bootstrap.go). It uses
// a proxy only if its host trusts the server (getCACerts in pkg/clientaccess/token.go).
type Role string

// The roles.
const (
	Agent  Role = "agent"
	Server Role = "server"
)

// Options say whom to trust besides the servers of the token's CA hash, and how to
// connect.
type Options struct {
	// ContextCA returns the CA bundle of a cluster that the user trusts, or nil. Its
	// servers are trusted if the token has no CA hash.
	ContextCA func(context.Context) []byte
	// TrustUnknownServer accepts any server for a token without a CA hash, as a
	// joining node does.
	TrustUnknownServer bool

	// ServerName is the name in the server's certificate. Empty: the URL's host.
	// Nodes do not use it.
	ServerName string
	// Proxy is as in http.Transport, and called once. Nil: no proxy. A node uses it only
	// if it cannot reach the server without.
	Proxy func(*http.Request) (*url.URL, error)
	// ProxyHint is advice for a proxy that does not connect.
	ProxyHint string
	// Timeout bounds each request; a rotation has three times as long. Zero: ten
	// seconds, as in K3s.
	Timeout time.Duration
	// Backoff paces repeated requests. Zero: four attempts, two seconds apart.
	Backoff wait.Backoff
}

// Verdict is the answer of a server to a token, or the reason that there is none. A
// wrong password is refused, and so is a bootstrap token that is wrong, expired,
// deleted or not for authentication.
type Verdict string

// The verdicts.
const (
	Accepted   Verdict = "accepted"   // good in that role
	Refused    Verdict = "refused"    // not known to the server
	Forbidden  Verdict = "forbidden"  // known, but not good in that role
	Busy       Verdict = "busy"       // not known: too many requests (status 429), or the server is starting (503)
	Unexpected Verdict = "unexpected" // an answer that K3s does not give
	NoAnswer   Verdict = "no answer"  // not known, since the connection was lost
	Unproved   Verdict = "unproved"   // not sent, since the server did not prove to be the token's; a node sends it
	NotSent    Verdict = "not sent"   // not sent, and a node does not send it either
)

// Step is one of the five steps of K3s TLS bootstrapping.
type Step struct {
	Name   string // such as "download the CA bundle"
	Status string
}

// The statuses of a step. No step follows a failed one.
const (
	Passed  = "passed"
	Skipped = "skipped"
	Failed  = "failed"
)

// Report is the result of trying a token in one role.
type Report struct {
	Verdict      Verdict
	Err          error  // why a node does not join; nil if it does
	Steps        []Step // those that were performed
	Distribution Distribution
	CAHash       string // of the server; empty if it has not proved its identity
	HostTrusts   bool   // this machine's CAs vouch for the server: a node with the same ignores the CA hash
}

// errSkipped is returned by a step that was not needed. It is no failure.
var errSkipped = errors.New("skipped")

// add adds the next step, and returns its error unless it was skipped.
func (r *Report) add(err error) error {
	names := [...]string{
		"download the CA bundle", "compute its hash", "compare it with the token's",
		"validate the server's certificate", "send the credentials",
	}
	status := Passed
	switch {
	case errors.Is(err, errSkipped):
		status, err = Skipped, nil
	case err != nil:
		status = Failed
	}
	r.Steps = append(r.Steps, Step{names[len(r.Steps)], status})
	return err
}
