package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Outcome is the known result of a rotation.
type Outcome string

// The outcomes.
const (
	Rotated    Outcome = "rotated"     // the old token is valid until the server is restarted
	NotRotated Outcome = "not rotated" // the old token stays valid
	Unknown    Outcome = "unknown"     // it may have been carried out, wholly or in part: keep both tokens
)

// Rotate replaces the server token: PUT token on the session's server
// (tokenRequestHandler in K3s's pkg/server/token.go). The caller ensures that
// the session's token is the server's (Session.Accepts), that K3s can start with
// next, and that no earlier rotation is unfinished. The error is why the token
// was not rotated, or why that is unknown.
//
// A request without an answer is repeated with the same new token, which is
// safe: the server accepts the old one until it is restarted. A failure within
// the server (status 500) is not, since the change may be half written. If ctx
// ends after a request may have left, the outcome is Unknown.
func (s *Session) Rotate(ctx context.Context, next token.Secret) (Outcome, error) {
	body, _ := json.Marshal(map[string]string{"newToken": next.Reveal()}) // which cannot fail for strings
	patient := *s.verified
	patient.Timeout *= 3
	outcome, reason := NotRotated, context.Cause(ctx)
	_ = wait.ExponentialBackoffWithContext(ctx, s.opts.Backoff, func(ctx context.Context) (bool, error) {
		resp, err := s.do(ctx, &patient, http.MethodPut, s.path("token"), s.authorization(Server), body)
		latest, repeat, err := judge(resp, err)
		if outcome != Unknown || latest != NotRotated { // otherwise an earlier request stays in doubt
			outcome, reason = latest, err
		}
		return !repeat, nil
	})
	return outcome, reason
}

// judge returns the outcome of a request, and whether to repeat it.
func judge(resp response, err error) (outcome Outcome, repeat bool, reason error) {
	status := fmt.Sprintf(" (status %d)", resp.status)
	switch code := resp.status; {
	case code == 0 && resp.sent:
		return Unknown, true, err
	case code == 0:
		return NotRotated, true, err
	case code == http.StatusOK:
		return Rotated, false, nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return NotRotated, false, hint.New("the server refuses the current token"+status, lastToken)
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && resp.message() != "": // of K3s itself
		return NotRotated, true, hint.New("the server is busy or still starting"+status, tryAgain)
	case code >= 300 && code <= 499:
		return NotRotated, false, hint.New("the server does not take the request"+status,
			"check that it is a K3s server that knows k3s token rotate")
	}
	text := "the server failed to rotate the token" + status
	if id := errorID.FindString(resp.message()); id != "" {
		text += ", " + id
	}
	return Unknown, false, hint.New(text, "look at the server's log, and do not restart the server before you know which token it has written")
}

// errorID is the number under which K3s logs a failed rotation (SendErrorWithID in
// its pkg/util/apierrors.go).
var errorID = regexp.MustCompile(`token error ID \d{5}`)
