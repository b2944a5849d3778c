package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Status is the result of a step.
type Status string

// The statuses of a step. No step follows a failed one.
const (
	Passed  Status = "passed"
	Skipped Status = "skipped"
	Failed  Status = "failed"
)

// Step is one of the five steps of K3s TLS bootstrapping.
type Step struct {
	Name   string // such as "download the CA bundle"
	Status Status
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
	defer s.Close()
	s.verify(ctx, t)
	return s.report
}

func (s *Session) verify(ctx context.Context, t token.Token) {
	r := &s.report
	r.Verdict = NotSent
	if r.Err = s.connect(ctx); r.Err != nil {
		if r.CAHash == "" && s.nodeTrusts(r.Err) {
			r.Verdict = Unproved
		}
		if r.Verdict == Unproved && r.HostTrusts {
			r.Err = hint.Wrap(fmt.Errorf("only this machine's trusted CAs vouch for the server: %w", r.Err),
				"a node that has the same trusted CAs sends the token without a look at the CA hash")
		}
		return
	}
	r.Err = r.add(s.Accepts(ctx, t, s.opts.Role))
	if r.Verdict = verdict(r.Err); r.Verdict == Accepted {
		r.Err = s.obstacle(ctx, t)
	}
}

// obstacle returns why a node does not join although the server accepts its token.
func (s *Session) obstacle(ctx context.Context, t token.Token) error {
	switch {
	case s.Proxied():
		return errProxied(s.opts.Role, s.server, s.report.Distribution)
	case s.opts.Role == Server && verdict(s.Accepts(ctx, t, Agent)) == Refused:
		// A joining server asks for the configuration as an agent first (pkg/cluster/bootstrap.go).
		return errAgentToken
	}
	return nil
}

// verdict returns the verdict of an error of Accepts.
func verdict(err error) Verdict {
	if refusal, ok := errors.AsType[*notAccepted](err); ok {
		return refusal.verdict
	}
	if err != nil {
		return NoAnswer
	}
	return Accepted
}

// Accepts finds out whether nodes can join in a role with the token. It has no side
// effects. The error says why nodes cannot join, or why that is not known.
//
// GET readyz is open to whoever may join as an agent. GET token, which only takes PUT,
// answers 405 to the server token (400 in older releases).
func (s *Session) Accepts(ctx context.Context, t token.Token, role Role) error {
	resource := "readyz"
	verdicts := map[int]Verdict{
		http.StatusOK:           Accepted,
		http.StatusUnauthorized: Refused, http.StatusForbidden: Forbidden,
		http.StatusTooManyRequests: Busy, http.StatusServiceUnavailable: Busy,
	}
	if role == Server {
		resource = "token"
		delete(verdicts, http.StatusOK)
		verdicts[http.StatusMethodNotAllowed], verdicts[http.StatusBadRequest] = Accepted, Accepted
	}
	r, err := s.client.get(ctx, s.path(resource), authorization(role, t))
	if err != nil {
		return err
	}
	verdict := cmp.Or(verdicts[r.status], Unexpected)
	if verdict == Accepted {
		return nil
	}
	text := fmt.Sprintf("the server does not accept the token: %s (status %d)", verdict, r.status)
	return &notAccepted{hint.New(text, advice(verdict, role, t.Type())), verdict}
}

// notAccepted is the error for a token that the server does not accept.
type notAccepted struct {
	error
	verdict Verdict
}

// Unwrap returns the error with its advice.
func (e *notAccepted) Unwrap() error { return e.error }

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
