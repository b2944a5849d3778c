package supervisor_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// put is what the server does with one PUT.
type put func(k *k3s, w http.ResponseWriter, r *http.Request)

func carryOut(k *k3s, w http.ResponseWriter, r *http.Request) { k.ServeHTTP(w, r) }

func cutBefore(_ *k3s, w http.ResponseWriter, _ *http.Request) { hijack(w, "") }

func cutAfter(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.ServeHTTP(httptest.NewRecorder(), r)
	hijack(w, "")
}

// hangAfter carries out the rotation and does not answer.
func hangAfter(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.ServeHTTP(httptest.NewRecorder(), r)
	<-r.Context().Done()
	hijack(w, "")
}

// say answers with a status, and with a Status of K3s if there is a message.
func say(code int, message string) put {
	return func(_ *k3s, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if message == "" {
			w.WriteHeader(code)
			return
		}
		sendStatus(w, code, message)
	}
}

// scripted starts a supervisor whose PUTs go as told, in turn, the last one ever
// after. It counts them.
func scripted(t *testing.T, puts ...put) (*k3s, supervisor.URL, *witness, *atomic.Int32) {
	t.Helper()
	k, n := &k3s{}, &atomic.Int32{}
	u, w := newK3s(t, k, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		puts[min(int(n.Add(1)), len(puts))-1](k, w, r)
		return true
	})
	return k, u, w, n
}

func TestRotateReportsWhatIsKnown(t *testing.T) {
	t.Parallel()
	const rotated, notRotated, unknown = supervisor.Rotated, supervisor.NotRotated, supervisor.Unknown
	const id = "token error ID 01234"
	for _, test := range []struct {
		name    string
		puts    []put
		outcome supervisor.Outcome
		tries   int
		rotated int // times, on the server
		says    string
	}{
		{"carried out", []put{carryOut}, rotated, 1, 1, ""},
		{"cut before, then carried out", []put{cutBefore, carryOut}, rotated, 2, 1, ""},
		{"cut after, then carried out", []put{cutAfter, carryOut}, rotated, 2, 2, ""},
		{"cut after, always", []put{cutAfter}, unknown, 4, 4, incomplete},
		{"no answer in time, then carried out", []put{hangAfter, carryOut}, rotated, 2, 2, ""},
		{"no answer in time, always", []put{hangAfter}, unknown, 2, 2, "did not answer in time"},
		{"busy, always", []put{say(429, "")}, notRotated, 4, 0, "busy"},
		{"not ready, then carried out", []put{say(503, "apiserver not ready"), carryOut}, rotated, 2, 1, ""},
		{"not ready, always", []put{say(503, "apiserver not ready")}, notRotated, 4, 0, "still starting"},
		{"503 of a proxy", []put{say(503, "")}, unknown, 1, 0, "status 503"},
		{"wrong current token", []put{say(401, "not authorized")}, notRotated, 1, 0, "refuses the current token"},
		{"not the server token", []put{say(403, "forbidden")}, notRotated, 1, 0, "refuses the current token"},
		{"failure with an ID", []put{say(500, "Internal error occurred: "+id)}, unknown, 1, 0, id},
		{"status that K3s does not have", []put{say(204, "")}, unknown, 1, 0, "status 204"},
		{"cut, then refused", []put{cutAfter, say(401, "not authorized")}, unknown, 2, 1, incomplete},
		{"cut, then failed", []put{cutBefore, say(500, id)}, unknown, 2, 0, id},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k, u, _, tries := scripted(t, test.puts...)
			opts := quick(k.hash)
			if strings.HasPrefix(test.name, "no answer in time") {
				opts.Timeout, opts.Backoff.Steps = 400*time.Millisecond, 2
			}
			outcome, err := connect(t, u, opts).Rotate(t.Context(), parse(t, serverPassword), newPassword)
			if outcome != test.outcome || int(tries.Load()) != test.tries {
				t.Errorf("got %s, %v after %d tries, want %s after %d", outcome, err, tries.Load(), test.outcome, test.tries)
			}
			if len(k.rotated) != test.rotated {
				t.Errorf("the server rotated %d times, want %d", len(k.rotated), test.rotated)
			}
			for range test.rotated {
				if got := <-k.rotated; got != newPassword {
					t.Errorf("the server rotated to %q", got)
				}
			}
			if test.outcome != rotated {
				checkError(t, err, test.says)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRotateStopsWithTheContext(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		before  bool // the context ends before the request
		put     put
		outcome supervisor.Outcome
	}{
		{"before it is sent", true, carryOut, supervisor.NotRotated},
		{"while it is under way", false, hangAfter, supervisor.Unknown},
		{"while it waits after a lost connection", false, cutAfter, supervisor.Unknown},
		{"while it waits for a busy server", false, say(429, ""), supervisor.NotRotated},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k, u, _, tries := scripted(t, func(k *k3s, w http.ResponseWriter, r *http.Request) {
				time.AfterFunc(300*time.Millisecond, cancel) // while the client waits
				test.put(k, w, r)
			})
			opts := quick(k.hash)
			opts.Backoff.Duration = time.Hour
			s := connect(t, u, opts)
			if test.before {
				cancel()
			}
			outcome, err := s.Rotate(ctx, parse(t, serverPassword), newPassword)
			if outcome != test.outcome || err == nil || tries.Load() > 1 || test.before && tries.Load() != 0 {
				t.Errorf("got %s, %v after %d tries", outcome, err, tries.Load())
			}
		})
	}
}

func TestRotateSendsNothingToAnImpostorThatComesLater(t *testing.T) {
	t.Parallel()
	l, w := newLab(t), &witness{}
	s := connect(t, serve(t, w, &k3s{bundle: l.shown, rotated: make(chan string, 1)}, l.until(2)), quick(hashOf(t, l.shown)))
	outcome, err := s.Rotate(t.Context(), parse(t, serverPassword), newPassword)
	if outcome != supervisor.NotRotated || !strings.Contains(err.Error(), "not signed by the trusted CA") {
		t.Errorf("got %s, %v", outcome, err)
	}
	w.sawNothing(t)
}

func TestRotateRefusesWhatWouldLoseTheToken(t *testing.T) {
	t.Parallel()
	k, u, w, tries := scripted(t, carryOut)
	s := connect(t, u, quick(k.hash))
	for _, next := range []token.Secret{"", newPassword + "\xff"} {
		outcome, err := s.Rotate(t.Context(), parse(t, serverPassword), next)
		if outcome != supervisor.NotRotated || tries.Load() != 0 {
			t.Errorf("got %s after %d tries", outcome, tries.Load())
		}
		checkError(t, err, "")
	}
	w.sawNothing(t)
}
