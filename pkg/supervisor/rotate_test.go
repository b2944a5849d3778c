package supervisor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

func newToken(t *testing.T) NewToken {
	t.Helper()
	n, err := GenerateNewToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// put is what the server does with one PUT.
type put func(k *k3s, w http.ResponseWriter, r *http.Request)

func carryOut(k *k3s, w http.ResponseWriter, r *http.Request) { k.ServeHTTP(w, r) }

// cutBefore reads nothing and closes the connection.
func cutBefore(_ *k3s, w http.ResponseWriter, _ *http.Request) { hijack(w, "") }

// cutAfter carries out the rotation and closes the connection.
func cutAfter(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.ServeHTTP(discard{}, r)
	hijack(w, "")
}

// cutWithin carries out the rotation and closes within the status line.
func cutWithin(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.ServeHTTP(discard{}, r)
	hijack(w, "HTTP/1.1 20")
}

// hangAfter carries out the rotation and then says nothing.
func hangAfter(k *k3s, w http.ResponseWriter, r *http.Request) {
	k.ServeHTTP(discard{}, r)
	<-r.Context().Done()
	hijack(w, "")
}

// say answers with a status, and with a Status of K3s where there is a text.
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

// discard is a ResponseWriter for nobody.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// faulty starts a supervisor whose PUTs go as told, one after the other, the
// last one ever after.
func faulty(t *testing.T, puts ...put) (*k3s, *Session, *witness, *[]time.Duration) {
	t.Helper()
	ca := newCA(t, "ca", nil)
	k := &k3s{program: "k3s", bundle: bundle(ca)}
	var n atomic.Int32
	u, w := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			k.ServeHTTP(w, r)
			return
		}
		puts[min(int(n.Add(1)), len(puts))-1](k, w, r)
	}), always(ca.issue(t, leaf{})))
	opts := quick(hashOf(t, k.bundle))
	opts.RotateTimeout = 30 * time.Second
	var waits []time.Duration
	opts.Sleep = func(ctx context.Context, d time.Duration) error {
		waits = append(waits, d)
		return ctx.Err()
	}
	return k, connect(t, u, opts), w, &waits
}

func TestRotateReportsWhatIsKnown(t *testing.T) {
	t.Parallel()
	const id = errorIDText + "01234"
	for _, test := range []struct {
		name    string
		puts    []put
		outcome Outcome
		tries   int
		rotated int // on the server
		says    string
		errorID string
		slow    bool // the server does not answer
	}{
		{name: "carried out", puts: []put{carryOut}, outcome: Rotated, tries: 1, rotated: 1},
		{name: "cut before, then carried out", puts: []put{cutBefore, carryOut}, outcome: Rotated, tries: 2, rotated: 1},
		{name: "cut after, then carried out", puts: []put{cutAfter, carryOut}, outcome: Rotated, tries: 2, rotated: 2},
		{name: "cut within the answer, then carried out", puts: []put{cutWithin, carryOut}, outcome: Rotated, tries: 2, rotated: 2},
		{name: "no answer in time, then carried out", puts: []put{hangAfter, carryOut}, slow: true, outcome: Rotated, tries: 2, rotated: 2},
		{name: "cut before, always", puts: []put{cutBefore}, outcome: Unknown, tries: maxTries, says: "closed the connection"},
		{name: "cut after, always", puts: []put{cutAfter}, outcome: Unknown, tries: maxTries, rotated: maxTries, says: "closed the connection"},
		{name: "no answer in time, always", puts: []put{hangAfter}, slow: true, outcome: Unknown, tries: maxTries, rotated: maxTries, says: "did not answer in time"},
		{name: "busy, then carried out", puts: []put{say(429, ""), say(429, "Too many"), carryOut}, outcome: Rotated, tries: 3, rotated: 1},
		{name: "busy, always", puts: []put{say(429, "")}, outcome: NotRotated, tries: maxTries, says: "too busy"},
		{name: "not ready, then carried out", puts: []put{say(503, "apiserver not ready"), carryOut}, outcome: Rotated, tries: 2, rotated: 1},
		{name: "not ready, always", puts: []put{say(503, "apiserver not ready")}, outcome: NotRotated, tries: maxTries, says: "not ready"},
		{name: "503 of something in front", puts: []put{say(503, "")}, outcome: Unknown, tries: maxTries, says: "does not say whether"},
		{name: "502 of a proxy, then carried out", puts: []put{say(502, ""), carryOut}, outcome: Rotated, tries: 2, rotated: 1},
		{name: "504 of a proxy", puts: []put{say(504, "")}, outcome: Unknown, tries: maxTries, says: "status 504"},
		{name: "wrong current token", puts: []put{say(401, "not authorized")}, outcome: NotRotated, tries: 1, says: "refuses the current token"},
		{name: "not the server token", puts: []put{say(403, "forbidden")}, outcome: NotRotated, tries: 1, says: "only the server token"},
		{name: "no such path", puts: []put{say(404, "")}, outcome: NotRotated, tries: 1, says: "status 404"},
		{name: "redirect", puts: []put{say(307, "")}, outcome: NotRotated, tries: 1, says: "status 307"},
		{name: "failure with an id", puts: []put{say(500, "Internal error occurred: "+id)}, outcome: Unknown, tries: 1, says: id, errorID: "01234"},
		{name: "failure without an id", puts: []put{say(500, "")}, outcome: Unknown, tries: 1, says: "status 500"},
		{name: "status of no K3s", puts: []put{say(204, "")}, outcome: Unknown, tries: 1, says: "status 204"},
		{name: "cut, then refused", puts: []put{cutAfter, say(401, "not authorized")}, outcome: Unknown, tries: 2, rotated: 1, says: "after that: the server refuses"},
		{name: "cut, then busy", puts: []put{cutBefore, say(429, "")}, outcome: Unknown, tries: maxTries, says: "after that: the server is too busy"},
		{name: "cut, then failed", puts: []put{cutBefore, say(500, id)}, outcome: Unknown, tries: 2, says: id, errorID: "01234"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k, s, _, waits := faulty(t, test.puts...)
			if test.slow {
				s.rotateTimeout = 700 * time.Millisecond
			}
			next := newToken(t)
			r := s.Rotate(t.Context(), parse(t, serverPassword), next)
			if r.Outcome != test.outcome || r.Tries != test.tries || r.ErrorID != test.errorID {
				t.Errorf("got %+v, want %s after %d tries, error id %q", r, test.outcome, test.tries, test.errorID)
			}
			if (r.Err == nil) != (test.outcome == Rotated) || r.Err != nil && !strings.Contains(r.Err.Error(), test.says) {
				t.Errorf("got the error %v, want one that says %q", r.Err, test.says)
			}
			rotated, got := k.rotations()
			if rotated != test.rotated || rotated > 0 && got != next.Token().Secret.Reveal() {
				t.Errorf("the server rotated %d times, want %d, or to another token", rotated, test.rotated)
			}
			if len(*waits) != test.tries-1 {
				t.Errorf("waited %v between %d tries", *waits, test.tries)
			}
			for _, wait := range *waits {
				if wait < rotateWait || wait > maxWait {
					t.Errorf("waited %s", wait)
				}
			}
			noSecretIn(t, r.Err)
			if r.Err != nil && strings.Contains(r.Err.Error(), next.Token().Secret.Reveal()) {
				t.Errorf("the error holds the new token: %v", r.Err)
			}
		})
	}
}

func TestRotateSendsWhatK3sReads(t *testing.T) {
	t.Parallel()
	_, s, w, _ := faulty(t, carryOut)
	n, err := CheckNewToken(`aB3"\<&>'x{y}#$%Zq9`, token.Token{}, "", NewTokenOptions{AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Rotate(t.Context(), parse(t, serverPassword), n); r.Outcome != Rotated {
		t.Fatal(r.Err)
	}
	_, request, _ := strings.Cut(w.text(), "PUT /v1-k3s/token HTTP/1.1\r\n")
	header, body, _ := strings.Cut(request, "\r\n\r\n")
	if want := `{"newToken":"aB3\"\\\u003c\u0026\u003e'x{y}#$%Zq9"}`; body != want {
		t.Errorf("sent the body %s, want %s", body, want)
	}
	if !strings.Contains(header, "Content-Length: "+fmt.Sprint(len(body))) || !strings.Contains(header, "Connection: close") {
		t.Errorf("sent the header %s", header)
	}
}

func TestRotateStopsWithTheContext(t *testing.T) {
	t.Parallel()
	t.Run("before it is sent", func(t *testing.T) {
		t.Parallel()
		k, s, _, _ := faulty(t, carryOut)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := s.Rotate(ctx, parse(t, serverPassword), newToken(t))
		if n, _ := k.rotations(); r.Outcome != NotRotated || !errors.Is(r.Err, context.Canceled) || n != 0 {
			t.Errorf("got %+v, and %d rotations", r, n)
		}
	})
	t.Run("while it is under way", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		k, s, _, _ := faulty(t, func(k *k3s, w http.ResponseWriter, r *http.Request) {
			cancel()
			hangAfter(k, w, r)
		})
		r := s.Rotate(ctx, parse(t, serverPassword), newToken(t))
		if r.Outcome != Unknown || !errors.Is(r.Err, context.Canceled) || r.Tries != 1 {
			t.Errorf("got %+v", r)
		}
		// The server goes on by itself.
		for range 100 {
			if n, _ := k.rotations(); n == 1 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("the server did not carry it out")
	})
	t.Run("while it waits after a lost connection", func(t *testing.T) {
		t.Parallel()
		_, s, _, _ := faulty(t, cutAfter)
		ctx, cancel := context.WithCancel(t.Context())
		s.wire.sleep = func(context.Context, time.Duration) error {
			cancel()
			return ctx.Err()
		}
		if r := s.Rotate(ctx, parse(t, serverPassword), newToken(t)); r.Outcome != Unknown || r.Tries != 1 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("while it waits for a busy server", func(t *testing.T) {
		t.Parallel()
		_, s, _, _ := faulty(t, say(429, ""))
		ctx, cancel := context.WithCancel(t.Context())
		s.wire.sleep = func(context.Context, time.Duration) error {
			cancel()
			return ctx.Err()
		}
		if r := s.Rotate(ctx, parse(t, serverPassword), newToken(t)); r.Outcome != NotRotated || r.Tries != 1 {
			t.Errorf("got %+v", r)
		}
	})
}

func TestRotateSendsNothingToAnImpostorThatComesLater(t *testing.T) {
	t.Parallel()
	ca, evil := newCA(t, "ca", nil), newCA(t, "ca", nil)
	good, bad := ca.issue(t, leaf{}), evil.issue(t, leaf{})
	var switched atomic.Bool
	k := &k3s{program: "k3s", bundle: bundle(ca)}
	u, w := serve(t, k, func(int) tls.Certificate {
		if switched.Load() {
			return bad
		}
		return good
	})
	s := connect(t, u, quick(hashOf(t, k.bundle)))
	switched.Store(true)
	r := s.Rotate(t.Context(), parse(t, serverPassword), newToken(t))
	if r.Outcome != NotRotated || r.Tries != 1 || !strings.Contains(r.Err.Error(), "not signed by the CA") {
		t.Errorf("got %+v", r)
	}
	w.sawNothing(t)
}

func TestRotateWhereTheServerIsGone(t *testing.T) {
	t.Parallel()
	_, s, _, waits := faulty(t, carryOut)
	l := listen(t)
	gone := address(t, l)
	_ = l.Close()
	s.wire.server, s.wire.remote = gone, &pin{}
	r := s.Rotate(t.Context(), parse(t, serverPassword), newToken(t))
	if r.Outcome != NotRotated || r.Tries != maxTries || len(*waits) != maxTries-1 || !strings.Contains(r.Err.Error(), "nothing listens") {
		t.Errorf("got %+v", r)
	}
}

func TestRotateRefusesWhatWasNotChecked(t *testing.T) {
	t.Parallel()
	k, s, w, _ := faulty(t, carryOut)
	if r := s.Rotate(t.Context(), parse(t, serverPassword), NewToken{}); r.Outcome != NotRotated || r.Err == nil || r.Tries != 0 {
		t.Errorf("no new token: got %+v", r)
	}
	var refused *NewTokenError
	if r := s.Rotate(t.Context(), parse(t, bootstrapToken), newToken(t)); r.Outcome != NotRotated || !errors.As(r.Err, &refused) {
		t.Errorf("bootstrap token: got %+v", r)
	}
	if n, _ := k.rotations(); n != 0 {
		t.Error("the server rotated")
	}
	w.sawNothing(t)
}

func TestGenerateNewTokenRefusesABrokenSource(t *testing.T) {
	t.Parallel()
	if _, err := GenerateNewToken(bytes.NewReader(make([]byte, 1000))); err == nil {
		t.Error("zeros: no error")
	}
	if _, err := GenerateNewToken(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("no bytes: got %v", err)
	}
	// 1e20 and the like are numbers to YAML: the next one is taken.
	number := bytes.Repeat([]byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x98, 0x76, 0x54}, 2)
	good := []byte{0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18, 0x29, 0x3a, 0x4b, 0x5c, 0x6d, 0x7e, 0x8f, 0x90}
	n, err := GenerateNewToken(bytes.NewReader(append(number, good...)))
	if err != nil || n.Token().Secret != "a1b2c3d4e5f60718293a4b5c6d7e8f90" {
		t.Errorf("got %v, %v", n.Token(), err)
	}
}
