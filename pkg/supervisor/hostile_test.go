package supervisor_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// The steps of a connection.
const (
	stepDownload = iota + 1
	stepHash
	stepCompare
	stepValidate
	stepCredentials
)

const incomplete = "gave no complete, valid answer"

// attack is a hostile server, and the error that a client must report.
type attack struct {
	step  int
	says  string // in the error or its hint
	start func(t *testing.T, w *witness) supervisor.URL
}

// lab has the certificates that attacks are made of.
type lab struct {
	ours, evil *identity
	good, bad  tls.Certificate
	shown      []byte // the real bundle
}

func newLab(t *testing.T) *lab {
	ours, evil := newCA(t, nil), newCA(t, nil)
	return &lab{ours: ours, evil: evil, good: issue(t, ours), bad: issue(t, evil), shown: bundle(ours)}
}

// impostor shows bundles in turn, answers as K3s does to the anonymous, and
// gives credentials what they are after.
func impostor(bundles ...[]byte) http.Handler {
	var n atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		switch {
		case r.URL.Path == "/cacerts":
			_, _ = w.Write(bundles[min(int(n.Add(1)), len(bundles))-1])
		case r.Header.Get("Authorization") == "":
			sendStatus(w, http.StatusForbidden, "forbidden")
		case strings.HasSuffix(r.URL.Path, "/token"):
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
}

// showing is an impostor with a certificate and bundles.
func showing(step int, says string, cert tls.Certificate, bundles ...[]byte) attack {
	return attack{step, says, func(t *testing.T, w *witness) supervisor.URL { return serve(t, w, impostor(bundles...), always(cert)) }}
}

// until picks the real certificate for n connections, then another's.
func (l *lab) until(n int) func(int) tls.Certificate {
	return func(i int) tls.Certificate {
		if i <= n {
			return l.good
		}
		return l.bad
	}
}

// switched is an impostor that changes its certificate after n connections.
func (l *lab) switched(n, step int) attack {
	return attack{step, "not signed by the trusted CA", func(t *testing.T, w *witness) supervisor.URL {
		return serve(t, w, impostor(l.shown), l.until(n))
	}}
}

// readyz is an attack of a server that is already trusted.
func (l *lab) readyz(says string, answer http.HandlerFunc) attack {
	return attack{stepCredentials, says, func(t *testing.T, w *witness) supervisor.URL {
		mux := http.NewServeMux()
		mux.Handle("/cacerts", impostor(l.shown))
		mux.Handle("/", answer)
		return serve(t, w, mux, always(l.good))
	}}
}

// redirecting sends those who ask for a path to a server that would accept the
// credentials.
func (l *lab) redirecting(step int, path string) attack {
	return attack{step, "answers with status 307", func(t *testing.T, w *witness) supervisor.URL {
		target := serve(t, w, impostor(l.shown), always(l.good))
		return serve(t, w, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, path) {
				http.Redirect(w, r, target.String()+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			impostor(l.shown).ServeHTTP(w, r)
		}), always(l.good))
	}}
}

// text is an attack by what is written to the first request.
func (l *lab) text(says, text string) attack {
	return attack{stepDownload, says, func(t *testing.T, w *witness) supervisor.URL {
		return serveTCP(t, func(conn net.Conn) {
			secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{l.good}})
			if r, err := http.ReadRequest(bufio.NewReader(secure)); err == nil {
				w.saw(r)
				_, _ = io.WriteString(secure, text)
				_ = secure.CloseWrite()
			}
		})
	}}
}

// tcp is an attack before there is HTTP.
func tcp(says string, talk func(net.Conn)) attack {
	return attack{stepDownload, says, func(t *testing.T, _ *witness) supervisor.URL { return serveTCP(t, talk) }}
}

// nowhere is the URL of no server.
func nowhere(says, url string) attack {
	return attack{stepDownload, says, func(t *testing.T, _ *witness) supervisor.URL { return parseURL(t, url) }}
}

func attacks(t *testing.T, l *lab) map[string]attack {
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	plain := httptest.NewServer(impostor(l.shown))
	t.Cleanup(plain.Close)
	return map[string]attack{
		"another CA than the hash":                  showing(stepCompare, "the token is for CA", l.bad, bundle(l.evil)),
		"the real bundle, another CA's certificate": l.switched(0, stepValidate),
		"CA switched after the download":            l.switched(1, stepValidate),
		"CA switched after the validation":          l.switched(2, stepCredentials),
		"CA switched before the credentials":        l.switched(3, stepCredentials),
		"bundle switched after the download":        showing(stepValidate, "CA bundle has changed", l.good, l.shown, bundle(l.evil)),
		"a certificate for another name":            showing(stepValidate, "not for 127.0.0.1", issue(t, l.ours, named("s1.example", "\x1b[2J")), l.shown),
		"an expired certificate":                    showing(stepValidate, "has expired or is not valid", issue(t, l.ours, expired), l.shown),
		"a redirect on /cacerts":                    l.redirecting(stepDownload, "/cacerts"),
		"a redirect on readyz":                      l.redirecting(stepCredentials, "/readyz"),
		"a bundle of more than 64 KiB":              showing(stepDownload, incomplete, l.good, append(bytes.Repeat([]byte("#"), 64<<10), l.shown...)),
		"no PEM":                                    showing(stepHash, "/cacerts has no valid certificates", l.good, []byte("<html>hi</html>")),
		"huge headers":                              l.text(incomplete, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"),
		"no HTTP":                                   l.text(incomplete, "SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n"),
		"cut in the body":                           l.text(incomplete, "HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n-----BEGIN CERT"),
		"cut before the answer":                     l.text(incomplete, ""),
		"a Kubernetes API":                          l.text("status 403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
		"status 503 again and again":                l.text("status 503", "HTTP/1.1 503 Oops\r\nRetry-After: 99999999\r\nContent-Length: 0\r\n\r\n"),
		"SSH on the port":                           tcp("does not speak TLS", func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n") }),
		"plain HTTP":                                nowhere("does not speak TLS", strings.Replace(plain.URL, "http:", "https:", 1)),
		"nothing listens":                           nowhere("nothing listens", nobody),
		"no such name":                              nowhere("cannot reach s1.invalid:443", "https://s1.invalid"),
		"readyz of a Kubernetes API": l.readyz("not a running K3s supervisor", func(w http.ResponseWriter, r *http.Request) {
			sendStatus(w, http.StatusForbidden, fmt.Sprintf(`forbidden: User "system:anonymous" cannot get path %q`, r.URL.Path))
		}),
		"readyz of a server that starts": l.readyz("wait if it is starting", func(w http.ResponseWriter, _ *http.Request) { sendStatus(w, 401, "not authorized") }),
	}
}

// withstand has a client verify tokens against the attacker.
func (a attack) withstand(t *testing.T, hash string, verdict supervisor.Verdict) {
	t.Helper()
	for credentials, role := range joining {
		w := &witness{}
		report := verify(t, a.start(t, w), credentials, role, quick(hash))
		if len(report.Steps) != a.step || report.Steps[a.step-1].Status != supervisor.Failed {
			t.Fatalf("got %+v, want an error of step %d", report, a.step)
		}
		if report.Verdict != verdict && (a.step < stepCredentials || report.Verdict != supervisor.NoAnswer) {
			t.Errorf("the verdict is %s, want %s", report.Verdict, verdict)
		}
		checkError(t, report.Err, a.says)
		w.sawNothing(t)
	}
}

func TestHostileServersNeverSeeCredentials(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for name, a := range attacks(t, l) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a.withstand(t, hashOf(t, l.shown), supervisor.NotSent)
		})
	}
}

func TestACAAppendedToTheBundleIsNotTrusted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	intermediate := newCA(t, l.ours)
	genuine, shown := bundle(intermediate, l.ours), bundle(intermediate, l.ours, l.evil)
	if hashOf(t, genuine) != hashOf(t, shown) {
		t.Fatal("the added CA changes the hash: the test attacks nothing")
	}
	showing(stepValidate, "a CA that the hash does not vouch for", l.bad, shown).withstand(t, hashOf(t, genuine), supervisor.Unproved)
}

func TestSilentServersAreBoundedByTheTimeoutAndTheContext(t *testing.T) {
	t.Parallel()
	silent := serveTCP(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	opts := quick(otherHash)
	opts.Timeout = 150 * time.Millisecond
	if _, err := supervisor.Connect(t.Context(), silent, opts); err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("got %v, want a time-out", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Timeout = time.Minute
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := supervisor.Connect(ctx, silent, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a cancellation", err)
	}
}

func TestEchoedCredentialsDoNotGetIntoErrors(t *testing.T) {
	t.Parallel()
	for name, echo := range map[string]func(w http.ResponseWriter, secret string){
		"in a Status": func(w http.ResponseWriter, secret string) { sendStatus(w, http.StatusTeapot, secret) },
		"in a header": func(w http.ResponseWriter, secret string) {
			w.Header().Set("Location", "http://%"+secret)
			w.WriteHeader(http.StatusFound)
		},
		"as a status":    func(w http.ResponseWriter, secret string) { hijack(w, "HTTP/1.1 "+secret+" X\r\n\r\n") },
		"as an error ID": func(w http.ResponseWriter, secret string) { sendStatus(w, 500, "token error ID "+secret) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &k3s{}
			u, _ := newK3s(t, k, func(w http.ResponseWriter, r *http.Request) bool {
				header := r.Header.Get("Authorization")
				_, password, _ := r.BasicAuth()
				if header != "" {
					echo(w, password+strings.TrimPrefix(header, "Bearer "))
				}
				return header != ""
			})
			for credentials, role := range joining {
				report := verify(t, u, credentials, role, quick(k.hash))
				if checkError(t, report.Err, ""); holdsSecret(fmt.Sprintf("%+v", report)) {
					t.Error("the report holds a secret")
				}
			}
			_, err := connect(t, u, quick(k.hash)).Rotate(t.Context(), parse(t, serverPassword), newPassword)
			checkError(t, err, "")
		})
	}
}
