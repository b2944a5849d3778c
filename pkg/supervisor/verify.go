package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// The statuses of a step. No step follows a failed one.
const (
	Passed  = "passed"
	Skipped = "skipped"
	Failed  = "failed"
)

// Step is one of the five steps of K3s TLS bootstrapping.
type Step struct {
	Name   string // such as "download the CA bundle"
	Status string
}

// errSkipped is returned by a step that was not needed. It is no failure.
var errSkipped = errors.New("skipped")

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

// Report is the result of trying a token in one role.
type Report struct {
	Verdict      Verdict
	Err          error  // why a node does not join; nil if it does
	Steps        []Step // those that were performed
	Distribution Distribution
	CAHash       string // of the server; empty if it has not proved its identity
	HostTrusts   bool   // this machine's CAs vouch for the server: a node with the same ignores the CA hash
}

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

// Verify performs the five steps of TLS bootstrapping against one server. It does so
// as a node that joins with the token, in the role of the options.
func Verify(ctx context.Context, server URL, t token.Token, opts Options) Report {
	opts.CAHash = t.CAHash
	s := newSession(server, opts)
	r := &s.report
	if r.Err = s.connect(ctx); r.Err != nil {
		r.Verdict = NotSent
		if r.CAHash == "" && s.nodeTrusts(r.Err) {
			r.Verdict = Unproved
		}
		if r.Verdict == Unproved && r.HostTrusts {
			r.Err = hint.Wrap(fmt.Errorf("only this machine's trusted CAs vouch for the server: %w", r.Err),
				"a node that has the same trusted CAs sends the token without a look at the CA hash")
		}
		return *r
	}
	r.Verdict, r.Err = s.Accepts(ctx, t, opts.Role)
	if r.Err = r.add(r.Err); r.Err == nil {
		r.Err = s.obstacle(ctx, t)
	}
	return *r
}

// obstacle returns why a node does not join although the server accepts its token. By
// itself a node uses no proxy (SetHTTPProxy in K3s's pkg/agent/loadbalancer/servers.go).
// A joining server asks for the configuration as an agent first (pkg/cluster/bootstrap.go).
func (s *Session) obstacle(ctx context.Context, t token.Token) error {
	if s.proxy != nil {
		advice := "make sure that nodes reach " + s.server.String() + " without it"
		if s.opts.Role == Agent {
			program := strings.ToUpper(string(s.report.Distribution))
			advice += ", or give them HTTPS_PROXY and " + program + "_AGENT_HTTP_PROXY_ALLOWED=true"
		}
		return hint.New("the server accepts the token, but only a proxy reaches it", advice)
	}
	if s.opts.Role == Server {
		if verdict, _ := s.Accepts(ctx, t, Agent); verdict == Refused {
			return hint.New("the server accepts the token, but the cluster has an agent token, too",
				"give a joining server both: --token and --agent-token")
		}
	}
	return nil
}

// Accepts finds out whether nodes can join in a role with the token. It has no side
// effects. Unless the verdict is Accepted, the error says why nodes cannot join, or why
// that is not known.
//
// GET readyz is open to whoever may join as an agent. GET token, which only takes PUT,
// answers 405 to the server token (400 in older releases).
func (s *Session) Accepts(ctx context.Context, t token.Token, role Role) (Verdict, error) {
	resource, accepted := "readyz", []int{http.StatusOK}
	if role == Server {
		resource, accepted = "token", []int{http.StatusMethodNotAllowed, http.StatusBadRequest}
	}
	r, err := s.get(ctx, s.client, s.path(resource), authorization(role, t))
	if err != nil {
		return NoAnswer, err
	}
	if slices.Contains(accepted, r.status) {
		return Accepted, nil
	}
	verdict := cmp.Or(map[int]Verdict{
		http.StatusUnauthorized: Refused, http.StatusForbidden: Forbidden,
		http.StatusTooManyRequests: Busy, http.StatusServiceUnavailable: Busy,
	}[r.status], Unexpected)
	text := fmt.Sprintf("the server does not accept the token: %s (status %d)", verdict, r.status)
	return verdict, hint.New(text, advice(verdict, role, t.Type()))
}

func advice(verdict Verdict, role Role, kind token.Type) string {
	switch {
	case verdict == Busy:
		return tryAgain
	case verdict == Unexpected:
		return noProxy
	case kind == token.Bootstrap && role == Server:
		return "use the server token: bootstrap tokens join agents only"
	case kind == token.Bootstrap:
		return "check that the token is not expired or deleted, and has the usage authentication"
	case role == Server:
		return "use the server token with which the server was last started"
	}
	return "use the token with which the server was last started, or its agent token if it has one"
}
