package supervisor_test

import (
	"context"
	"crypto/tls"
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

func carryOut(k *k3s, w http.ResponseWriter, r *http.Request) { k.answer(w, r) }

func cutBefore(_ *k3s, w http.ResponseWriter, _ *http.Request) { hijack(w, "") }

func cutAfter(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.answer(httptest.NewRecorder(), r)
	hijack(w, "")
}

// hangAfter carries out the rotation and does not answer.
func hangAfter(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.answer(httptest.NewRecorder(), r)
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
func scripted(t *testing.T, puts ...put) (*k3s, *atomic.Int32) {
	t.Helper()
	k, n := &k3s{}, &atomic.Int32{}
	k.front = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		puts[min(int(n.Add(1)), len(puts))-1](k, w, r)
		return true
	}
	return k.start(t), n
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
		{"busy, always", []put{say(429, "")}, notRotated, 4, 0, "busy"},
		{"not ready, then carried out", []put{say(503, "apiserver not ready"), carryOut}, rotated, 2, 1, ""},
		{"503 of a proxy", []put{say(503, "")}, unknown, 1, 0, "status 503"},
		{"wrong current token", []put{say(401, "not authorized")}, notRotated, 1, 0, "refuses the current token"},
		{"failure with an ID", []put{say(500, "Internal error occurred: "+id)}, unknown, 1, 0, id},
		{"cut, then refused", []put{cutAfter, say(401, "not authorized")}, unknown, 2, 1, incomplete},
		{"cut, then failed", []put{cutBefore, say(500, id)}, unknown, 2, 0, id},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k, tries := scripted(t, test.puts...)
			outcome, err := connect(t, k.url, quick(k.hash)).Rotate(t.Context(), parse(t, serverPassword), newPassword)
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
			k, tries := scripted(t, func(k *k3s, w http.ResponseWriter, r *http.Request) {
				time.AfterFunc(300*time.Millisecond, cancel) // while the client waits
				test.put(k, w, r)
			})
			opts := quick(k.hash)
			opts.Backoff.Duration = time.Hour
			s := connect(t, k.url, opts)
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
	ours, evil := newCA(t, nil), newCA(t, nil)
	good, bad := issue(t, ours), issue(t, evil)
	k := (&k3s{bundles: [][]byte{bundle(ours)}, certs: []tls.Certificate{good, good, good, bad}}).start(t)
	s := connect(t, k.url, quick(k.hash))
	outcome, err := s.Rotate(t.Context(), parse(t, serverPassword), newPassword)
	if outcome != supervisor.NotRotated || !strings.Contains(err.Error(), "not signed by the trusted CA") {
		t.Errorf("got %s, %v", outcome, err)
	}
	k.sawNothing(t)
}

func TestRotateRefusesWhatWouldLoseTheToken(t *testing.T) {
	t.Parallel()
	k, tries := scripted(t, carryOut)
	s := connect(t, k.url, quick(k.hash))
	for _, next := range []token.Secret{"", newPassword + "\xff"} {
		outcome, err := s.Rotate(t.Context(), parse(t, serverPassword), next)
		if outcome != supervisor.NotRotated || tries.Load() != 0 {
			t.Errorf("got %s after %d tries", outcome, tries.Load())
		}
		checkError(t, err, "")
	}
	k.sawNothing(t)
}
