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

// Verify performs the five steps of TLS bootstrapping against one server, as a node that
// joins with the token in a role.
func Verify(ctx context.Context, server URL, t token.Token, role Role, opts Options) Report {
	s := &Session{client: newClient(server, role, opts), token: t}
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
	r.Verdict, r.Err = s.Accepts(ctx, role)
	if r.Err = r.add(r.Err); r.Err == nil {
		r.Err = s.obstacle(ctx)
	}
	return *r
}

// nodeTrusts reports whether a node sends its token to the server in spite of the error,
// by K3s's rules (validateCAHash in pkg/clientaccess/token.go).
func (s *Session) nodeTrusts(err error) bool {
	withoutHash := errors.Is(err, errUnverified) && s.isSignedBy(newPool(s.cas...))
	return s.report.HostTrusts || withoutHash || errors.Is(err, errNotVouched)
}

// obstacle returns why a node does not join although the server accepts its token. By
// itself a node uses no proxy (SetHTTPProxy in K3s's pkg/agent/loadbalancer/servers.go).
// A joining server asks for the configuration as an agent first (pkg/cluster/bootstrap.go).
func (s *Session) obstacle(ctx context.Context) error {
	if s.proxy != nil {
		advice := "make sure that nodes reach " + s.server.String() + " without it"
		if s.role == Agent {
			program := strings.ToUpper(string(s.report.Distribution))
			advice += ", or give them HTTPS_PROXY and " + program + "_AGENT_HTTP_PROXY_ALLOWED=true"
		}
		return hint.New("the server accepts the token, but only a proxy reaches it", advice)
	}
	if s.role == Server {
		if verdict, _ := s.Accepts(ctx, Agent); verdict == Refused {
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
func (s *Session) Accepts(ctx context.Context, role Role) (Verdict, error) {
	resource, accepted := "readyz", []int{http.StatusOK}
	if role == Server {
		resource, accepted = "token", []int{http.StatusMethodNotAllowed, http.StatusBadRequest}
	}
	r, err := s.get(ctx, s.verified, s.path(resource), s.authorization(role))
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
	return verdict, hint.New(text, advice(verdict, role, s.token.Type()))
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
		return lastToken
	}
	return "use the token with which the server was last started, or its agent token if it has one"
}
