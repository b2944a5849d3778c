package supervisor_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// put is what the server does with one PUT.
type put struct {
	rotates bool
	status  int    // 0 cuts the connection
	message string // of a Status of K3s, if it sends one
}

// scripted starts a supervisor whose PUTs go as told, in turn, the last one ever
// after. It counts them. meanwhile is called before it answers.
func scripted(t *testing.T, meanwhile func(*http.Request), puts ...put) (*k3s, *atomic.Int32) {
	t.Helper()
	k, n := &k3s{}, &atomic.Int32{}
	k.front = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		put := puts[min(int(n.Add(1)), len(puts))-1]
		if put.rotates {
			k.answer(httptest.NewRecorder(), r)
		}
		meanwhile(r)
		switch {
		case put.status == 0:
			hijack(w, "")
		case put.message != "":
			sendStatus(w, put.status, put.message)
		default:
			w.WriteHeader(put.status)
		}
		return true
	}
	return k.start(t), n
}

func TestRotateReportsWhatIsKnown(t *testing.T) {
	t.Parallel()
	const rotated, notRotated, unknown = supervisor.Rotated, supervisor.NotRotated, supervisor.Unknown
	const id = "token error ID 01234"
	carryOut, cutBefore, cutAfter := put{true, 200, ""}, put{}, put{rotates: true}
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
		{"busy, always", []put{{status: 429}}, notRotated, 4, 0, "busy"},
		{"not ready, then carried out", []put{{false, 503, "apiserver not ready"}, carryOut}, rotated, 2, 1, ""},
		{"503 of a proxy", []put{{status: 503}}, unknown, 1, 0, "status 503"},
		{"wrong current token", []put{{status: 401}}, notRotated, 1, 0, "refuses the current token"},
		{"failure with an ID", []put{{false, 500, "Internal error occurred: " + id}}, unknown, 1, 0, id},
		{"cut, then refused", []put{cutAfter, {status: 401}}, unknown, 2, 1, incomplete},
		{"cut, then failed", []put{cutBefore, {false, 500, id}}, unknown, 2, 0, id},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k, tries := scripted(t, func(*http.Request) {}, test.puts...)
			outcome, err := k.connect(t, quick()).Rotate(t.Context(), newPassword)
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
		hangs   bool // the server does not answer
		put     put
		outcome supervisor.Outcome
	}{
		{"before it is sent", true, false, put{status: 200}, supervisor.NotRotated},
		{"while it is under way", false, true, put{rotates: true}, supervisor.Unknown},
		{"while it waits after a lost connection", false, false, put{rotates: true}, supervisor.Unknown},
		{"while it waits for a busy server", false, false, put{status: 429}, supervisor.NotRotated},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k, tries := scripted(t, func(r *http.Request) {
				time.AfterFunc(300*time.Millisecond, cancel) // while the client waits
				if test.hangs {
					<-r.Context().Done()
				}
			}, test.put)
			opts := quick()
			opts.Backoff.Duration = time.Hour
			s := k.connect(t, opts)
			if test.before {
				cancel()
			}
			outcome, err := s.Rotate(ctx, newPassword)
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
	outcome, err := k.connect(t, quick()).Rotate(t.Context(), newPassword)
	if outcome != supervisor.NotRotated || !strings.Contains(err.Error(), "not signed by the trusted CA") {
		t.Errorf("got %s, %v", outcome, err)
	}
	k.sawNothing(t)
}
