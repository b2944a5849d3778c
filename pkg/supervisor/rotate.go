package supervisor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// rotateWait is the shortest time between two tries of a rotation: the server
// may still be carrying out one whose connection was lost.
const rotateWait = 2 * time.Second

// Outcome is what is known of a rotation.
type Outcome string

const (
	// Rotated is a rotation that the server has carried out. It goes on
	// accepting the old token until it is restarted.
	Rotated Outcome = "rotated"
	// NotRotated is a rotation that the server has not carried out: the old
	// token holds.
	NotRotated Outcome = "not rotated"
	// Unknown is a rotation that may have been carried out, in part or in
	// whole. Both tokens must be kept.
	Unknown Outcome = "unknown"
)

// Rotation is the result of Rotate.
type Rotation struct {
	Outcome Outcome
	// Err says why the token was not rotated, or why that is not known; nil
	// where it was.
	Err error
	// Status is the last HTTP status, or 0 where there was no answer.
	Status int
	// ErrorID is the number under which the server logged its own failure, as
	// "token error ID <number>"; mostly empty.
	ErrorID string
	// Tries is how often the request was sent, or the server dialled for it.
	Tries int
}

// fate is what one try of a rotation means.
type fate int

const (
	carriedOut fate = iota
	// turnedDown: not carried out, and another try would not be either.
	turnedDown
	// putOff: not carried out, and another try may be.
	putOff
	// lost: perhaps carried out, and another try will tell.
	lost
	// broken: perhaps carried out, and another try may do damage.
	broken
)

// Rotate replaces the server token: PUT token (tokenRequestHandler in K3s's
// pkg/server/token.go) on the one server of this session. Callers make sure
// beforehand that it is the right one, that the current token is the server's
// (Finding.JoinsServers), and that no earlier rotation is unfinished.
//
// A request that gets lost is repeated, with the same new token: the server
// takes the old password until it is restarted, and the repetition changes
// nothing. The one that fails within the server (status 500) is not: the
// server may have written half of it, and would take the new token for the old
// one the next time. Each try has a connection of its own, over which Go's
// transport repeats nothing.
//
// The outcome is what is known, whatever happens to the context: Unknown if it
// ends once the request can have left.
func (s *Session) Rotate(ctx context.Context, current token.Token, next NewToken) Rotation {
	switch {
	case next.password == "":
		return Rotation{Outcome: NotRotated, Err: errors.New("there is no new token: the server would make one up that nobody gets to see")}
	case current.Type() == token.Bootstrap:
		return Rotation{Outcome: NotRotated, Err: newTokenError(CurrentIsBootstrap)}
	}
	body, err := json.Marshal(map[string]string{"newToken": next.password.Reveal()})
	if err != nil {
		return Rotation{Outcome: NotRotated, Err: errors.New("the new token cannot be put into a request")}
	}
	transport := s.wire.verified(s.roots, false)
	defer transport.CloseIdleConnections()

	var r Rotation
	var doubt error
	for {
		var sent atomic.Bool
		a, err := s.wire.roundTrip(ctx, transport, request{
			method: http.MethodPut, path: s.distribution.path("token"),
			credentials: credentials{user: token.UserServer, password: current.Secret},
			body:        body, limit: maxAnswer, timeout: s.rotateTimeout, sent: &sent,
		})
		r.Tries++
		r.Status, r.ErrorID = a.status, errorID(a.message())
		fate, reason := judge(a, err, sent.Load())
		if fate == carriedOut {
			r.Outcome = Rotated
			return r
		}
		if fate == lost || fate == broken {
			doubt = reason
		}
		again := (fate == putOff || fate == lost) && r.Tries < maxTries && ctx.Err() == nil
		if again {
			again = s.wire.sleep(ctx, max(rotateWait, s.wire.pause(r.Tries, a.retryAfter))) == nil
		}
		switch {
		case again:
			continue
		case doubt == nil:
			r.Outcome, r.Err = NotRotated, reason
		case fate == lost || fate == broken:
			r.Outcome, r.Err = Unknown, reason
		default:
			r.Outcome, r.Err = Unknown, fmt.Errorf("%w; after that: %w", doubt, reason)
		}
		return r
	}
}

// judge says what the answer to a PUT means, or the lack of one.
func judge(a answer, err error, sent bool) (fate, error) {
	switch a.status {
	case 0:
		certificate := new(tls.CertificateVerificationError)
		switch {
		case sent:
			return lost, err
		case errors.As(err, &certificate):
			return turnedDown, err
		}
		return putOff, err
	case http.StatusOK:
		return carriedOut, nil
	case http.StatusUnauthorized:
		return turnedDown, errors.New("the server refuses the current token: it is not the server token, or the server has been restarted since it was rotated")
	case http.StatusForbidden:
		return turnedDown, errors.New("the server does not let the current token rotate anything: only the server token can")
	case http.StatusTooManyRequests:
		return putOff, errors.New("the server is too busy: try again in a moment")
	case http.StatusServiceUnavailable:
		if a.message() != "" { // of K3s itself, not of something in front of it
			return putOff, errors.New("the server is not ready: try again in a moment")
		}
		return lost, errors.New("what answers for the server is not ready, and does not say whether the server got the request (status 503)")
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return lost, fmt.Errorf("a proxy in front of the server lost its answer (status %d): go to the server itself", a.status)
	case http.StatusInternalServerError:
		if id := errorID(a.message()); id != "" {
			return broken, fmt.Errorf("the server failed while it rotated the token: look for %q in its log, and do not restart it before it is clear which token it has written", errorIDText+id)
		}
		return broken, errors.New("the server failed while it rotated the token (status 500): look at its log, and do not restart it before it is clear which token it has written")
	}
	if a.status >= 300 && a.status <= 499 {
		return turnedDown, fmt.Errorf("the server does not take the request (status %d): is this a K3s server, and new enough to know k3s token rotate?", a.status)
	}
	return broken, fmt.Errorf("the server gave an answer that K3s does not give (status %d): look at its log", a.status)
}

// errorIDText comes before the number under which K3s logs the failure of a
// rotation (SendErrorWithID in its pkg/util/apierrors.go).
const errorIDText = "token error ID "

// errorID finds the number in a message, or returns nothing.
func errorID(message string) string {
	_, rest, found := strings.Cut(message, errorIDText)
	if !found {
		return ""
	}
	// Five digits, as K3s writes them: whatever else is there stays there.
	if len(rest) < 5 || strings.Trim(rest[:5], "0123456789") != "" {
		return ""
	}
	return rest[:5]
}
