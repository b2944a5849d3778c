package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Verdict is what the server makes of credentials.
type Verdict string

// The verdicts, empty if nothing was sent. A wrong password is refused, and so is a
// bootstrap token that is wrong, expired, deleted or not for authentication.
const (
	Accepted   Verdict = "accepted"   // good in that role
	Refused    Verdict = "refused"    // not known to the server
	Forbidden  Verdict = "forbidden"  // known, but not good in that role
	Busy       Verdict = "busy"       // too many requests (status 429)
	NotReady   Verdict = "not ready"  // the server is starting (status 503)
	Unexpected Verdict = "unexpected" // an answer that K3s does not give
)

// Answer is the server's answer to credentials in one role.
type Answer struct {
	Verdict Verdict
	Status  int // the HTTP status
}

// Finding says what credentials are good for: to join agents, or servers.
type Finding struct{ Agents, Servers Answer }

// JoinsAgents reports whether agents can join.
func (f Finding) JoinsAgents() bool { return f.Agents.Verdict == Accepted }

// JoinsServers reports whether servers can join. It is then the server token.
func (f Finding) JoinsServers() bool { return f.Servers.Verdict == Accepted }

// Verdict sums up both roles: accepted if one accepts, otherwise the verdict
// that leaves more doubt.
func (f Finding) Verdict() Verdict { return f.decisive().Verdict }

func (f Finding) decisive() Answer {
	for _, v := range []Verdict{Accepted, Unexpected, NotReady, Busy, Forbidden, Refused} {
		for _, answer := range []Answer{f.Servers, f.Agents} {
			if answer.Verdict == v {
				return answer
			}
		}
	}
	return Answer{}
}

// GoodFor says who can join with accepted credentials.
func (f Finding) GoodFor() string {
	switch {
	case f.JoinsServers() && f.JoinsAgents():
		return "servers and agents can join"
	case f.JoinsServers():
		return "servers can join; agents cannot, the cluster has an agent token of its own"
	case f.Servers.Verdict == Refused:
		return "agents can join; servers cannot, it is the agent token's password"
	}
	return "agents can join"
}

// Probe finds out what a token is good for, without side effects. GET readyz is
// open to whoever may join as an agent. GET token, which only takes PUT, answers
// 405 to the server token (400 in older releases).
//
// The user name in the token does not count, since a joining node uses its own.
// Only an agent token is not tried as a server token. The error is that of the
// connection.
func (s *Session) Probe(ctx context.Context, t token.Token) (f Finding, err error) {
	if kind := t.Type(); kind == token.Server || kind == token.Password {
		f.Servers, err = s.ask(ctx, "token", authorization(token.UserServer, t), http.StatusMethodNotAllowed, http.StatusBadRequest)
		if err != nil {
			return f, err
		}
	}
	f.Agents, err = s.ask(ctx, "readyz", authorization(token.UserNode, t), http.StatusOK)
	return f, err
}

// ask sends credentials, which are accepted if the status is one of good.
func (s *Session) ask(ctx context.Context, resource, authorization string, good ...int) (Answer, error) {
	r, err := s.client.get(ctx, s.path(resource), authorization)
	if err != nil {
		return Answer{}, err
	}
	verdicts := map[int]Verdict{
		http.StatusUnauthorized: Refused, http.StatusForbidden: Forbidden,
		http.StatusTooManyRequests: Busy, http.StatusServiceUnavailable: NotReady,
	}
	for _, status := range good {
		verdicts[status] = Accepted
	}
	return Answer{cmp.Or(verdicts[r.status], Unexpected), r.status}, nil
}

// NotAcceptedError is returned if the server accepts the credentials in no role.
type NotAcceptedError struct {
	Finding Finding
	Type    token.Type
}

func (e *NotAcceptedError) Error() string {
	answer := e.Finding.decisive()
	return fmt.Sprintf("the server does not accept the token: %s (status %d)", answer.Verdict, answer.Status)
}

// Hint returns advice for the user.
func (e *NotAcceptedError) Hint() string {
	switch v := e.Finding.Verdict(); {
	case v == Busy || v == NotReady:
		return tryAgain
	case v == Unexpected:
		return noProxy
	case e.Type == token.Bootstrap:
		return "check that the token is not expired or deleted, and has the usage authentication"
	}
	return "use the token with which the server was last started"
}
