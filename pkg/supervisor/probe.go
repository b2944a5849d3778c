package supervisor

import (
	"context"
	"fmt"
	"net/http"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Verdict is what a server says to credentials.
type Verdict string

const (
	// Untried are credentials that were not sent in that role.
	Untried Verdict = ""
	// Accepted are credentials that are good in that role.
	Accepted Verdict = "accepted"
	// Refused are credentials that the server does not know: a password that
	// is wrong, or a bootstrap token that is wrong, expired, deleted, or not
	// meant for authentication. K3s does not tell which.
	Refused Verdict = "refused"
	// Forbidden are credentials that the server knows, and that are not good
	// in that role, such as a bootstrap token without the group of nodes.
	Forbidden Verdict = "forbidden"
	// Busy is a server that has too many requests at the moment (status 429).
	Busy Verdict = "busy"
	// NotReady is a server that is starting (status 503).
	NotReady Verdict = "not ready"
	// Unexpected is an answer that K3s does not give.
	Unexpected Verdict = "unexpected"
)

// Answer is what the server said in one role.
type Answer struct {
	Verdict Verdict
	// Status is the HTTP status, or 0 where nothing was sent.
	Status int
}

// Finding is what credentials are good for.
type Finding struct {
	// Agents tells whether an agent can join with them, Servers whether a
	// server can.
	Agents, Servers Answer
}

// JoinsAgents tells whether an agent can join.
func (f Finding) JoinsAgents() bool { return f.Agents.Verdict == Accepted }

// JoinsServers tells whether a server can join. It also makes the password
// that of the server token, which Rotate asks for.
func (f Finding) JoinsServers() bool { return f.Servers.Verdict == Accepted }

// Verdict sums up: accepted in any role; else the answer that leaves a doubt,
// if there is one; else forbidden before refused.
func (f Finding) Verdict() Verdict {
	for _, v := range []Verdict{Accepted, Unexpected, NotReady, Busy, Forbidden, Refused} {
		if f.Agents.Verdict == v || f.Servers.Verdict == v {
			return v
		}
	}
	return Untried
}

// Probe sends the credentials of a token and finds out what they are good for,
// without side effects: GET readyz is open to whoever may join as an agent,
// and GET token, which only takes PUT, answers 405 to whoever has the server
// token's password (400 in older releases). The user name in the token does
// not count, since a joining node puts its own there; only an agent token is
// not tried as a server's.
//
// The error is that of the connection. What the server says is in the Finding.
func (s *Session) Probe(ctx context.Context, t token.Token) (Finding, error) {
	var f Finding
	var err error
	switch t.Type() {
	case token.Bootstrap:
		f.Agents, err = s.readyz(ctx, credentials{bearer: token.Secret(t.ID + "." + t.Secret.Reveal())})
		return f, err
	case token.Agent:
	default:
		if f.Servers, err = s.serverToken(ctx, t.Secret); err != nil {
			return f, err
		}
	}
	f.Agents, err = s.readyz(ctx, credentials{user: token.UserNode, password: t.Secret})
	return f, err
}

// readyz asks whether an agent could join.
func (s *Session) readyz(ctx context.Context, c credentials) (Answer, error) {
	a, err := s.get(ctx, "readyz", c)
	if err == nil && a.Status == http.StatusOK {
		a.Verdict = Accepted
	}
	return a, err
}

// serverToken asks whether a password is the server token's.
func (s *Session) serverToken(ctx context.Context, password token.Secret) (Answer, error) {
	a, err := s.get(ctx, "token", credentials{user: token.UserServer, password: password})
	if err == nil && (a.Status == http.StatusMethodNotAllowed || a.Status == http.StatusBadRequest) {
		a.Verdict = Accepted
	}
	return a, err
}

// get sends credentials, and reads the answers that mean the same everywhere.
func (s *Session) get(ctx context.Context, what string, c credentials) (Answer, error) {
	a, err := s.wire.patient(ctx, s.transport, request{
		method: http.MethodGet, path: s.distribution.path(what), credentials: c, limit: maxAnswer,
	})
	if err != nil {
		return Answer{}, err
	}
	verdict := Unexpected
	switch a.status {
	case http.StatusUnauthorized:
		verdict = Refused
	case http.StatusForbidden:
		verdict = Forbidden
	case http.StatusTooManyRequests:
		verdict = Busy
	case http.StatusServiceUnavailable:
		verdict = NotReady
	}
	return Answer{Verdict: verdict, Status: a.status}, nil
}

// NotAcceptedError says that a server takes the credentials in no role.
type NotAcceptedError struct {
	Finding Finding
	// Type is what the token was taken for.
	Type token.Type
}

func (e *NotAcceptedError) Error() string {
	bootstrap := e.Type == token.Bootstrap
	switch v := e.Finding.Verdict(); {
	case v == Refused && bootstrap:
		return "the server refuses the bootstrap token: it is wrong, expired, deleted, or has no usage for authentication"
	case v == Refused && e.Type == token.Agent:
		return "the server refuses the password: it is neither the agent token's nor the server token's, or the server was not restarted after a rotation"
	case v == Refused:
		return "the server refuses the password: it is not the server token's, or the server was not restarted after a rotation"
	case v == Forbidden && bootstrap:
		return "the server knows the bootstrap token but does not let nodes join with it: does it lack the group of joining nodes?"
	case v == Forbidden:
		return "the server knows the password but does not let nodes join with it"
	case v == Busy:
		return "the server is too busy to say: try again in a moment"
	case v == NotReady:
		return "the server is not ready to say: try again in a moment"
	}
	status := e.Finding.Servers.Status
	if e.Finding.Servers.Verdict != Unexpected {
		status = e.Finding.Agents.Status
	}
	return fmt.Sprintf("the server gave an answer that K3s does not give (status %d): is it a proxy?", status)
}

// Report is what Verify found.
type Report struct {
	// Server is the address that was given, Remote the IP address and port
	// behind it; Remote is empty where no connection was made.
	Server URL
	Remote string
	// Distribution and CAHash are as in Session; empty where no session came
	// about.
	Distribution Distribution
	CAHash       string
	// Steps are those that were taken, in order.
	Steps []Step
	// Finding is what the token is good for; the zero value where it was not
	// sent.
	Finding Finding
}

// Verify takes the five steps of TLS bootstrapping against one server, as a
// node would that joins with the token. A CA hash in the token goes before
// that of the options. The error is a *StepError; with a *NotAcceptedError in
// it, it is the server's answer to the credentials.
func Verify(ctx context.Context, server URL, t token.Token, opts Options) (Report, error) {
	report := Report{Server: server}
	observe := opts.withDefaults().Observe
	opts.Observe = func(step Step) {
		report.Steps = append(report.Steps, step)
		observe(step)
	}
	if t.CAHash != "" {
		opts.CAHash = t.CAHash
	}
	s, err := Connect(ctx, server, opts)
	if err != nil {
		return report, err
	}
	defer s.Close()
	report.Remote, report.Distribution, report.CAHash = s.Remote(), s.Distribution(), s.CAHash()

	report.Finding, err = s.Probe(ctx, t)
	if err == nil && report.Finding.Verdict() != Accepted {
		err = &NotAcceptedError{Finding: report.Finding, Type: t.Type()}
	}
	last := Step{Number: StepCredentials, Name: StepName(StepCredentials)}
	if err != nil {
		last.Status, last.Detail = Failed, err.Error()
		opts.Observe(last)
		return report, &StepError{Step: StepCredentials, Err: err}
	}
	last.Status, last.Detail = Passed, "accepted: "+report.Finding.GoodFor()
	opts.Observe(last)
	return report, nil
}

// GoodFor says who can join with the accepted credentials.
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
