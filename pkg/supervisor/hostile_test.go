package supervisor_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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

const (
	incomplete     = "gave no complete, valid answer"
	noCertificates = "/cacerts has no valid certificates"
)

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

// raw is an attack by what is written to the first request.
func (l *lab) raw(says string, write func(io.Writer)) attack {
	return attack{stepDownload, says, func(t *testing.T, w *witness) supervisor.URL {
		return serveTCP(t, func(conn net.Conn) {
			secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{l.good}})
			if r, err := http.ReadRequest(bufio.NewReader(secure)); err == nil {
				w.saw(r)
				write(secure)
				_ = secure.CloseWrite()
			}
		})
	}}
}

func (l *lab) text(says, text string) attack {
	return l.raw(says, func(w io.Writer) { _, _ = io.WriteString(w, text) })
}

// body is a complete answer to /cacerts.
func (l *lab) body(header, body string) attack {
	a := l.text(noCertificates, fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", header, len(body), body))
	a.step = stepHash
	return a
}

// tcp is an attack before there is HTTP.
func tcp(says string, talk func(net.Conn)) attack {
	return attack{stepDownload, says, func(t *testing.T, _ *witness) supervisor.URL { return serveTCP(t, talk) }}
}

// handshake is an attack by a handshake and nothing after it.
func (l *lab) handshake(says string, version uint16) attack {
	return tcp(says, func(conn net.Conn) {
		config := &tls.Config{MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{l.good}}
		_ = tls.Server(conn, config).HandshakeContext(context.Background())
	})
}

// nowhere is the URL of no server.
func nowhere(says, url string) attack {
	return attack{stepDownload, says, func(t *testing.T, _ *witness) supervisor.URL { return parseURL(t, url) }}
}

func attacks(t *testing.T, l *lab) map[string]attack {
	otherName := func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"s1.example", "\x1b[2J"}, nil }
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	client := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	plain := httptest.NewServer(impostor(l.shown))
	t.Cleanup(plain.Close)
	return map[string]attack{
		"another CA than the hash":                  showing(stepCompare, "the token is for CA", l.bad, bundle(l.evil)),
		"the real bundle, another CA's certificate": l.switched(0, stepValidate),
		"CA switched after the download":            l.switched(1, stepValidate),
		"CA switched after the validation":          l.switched(2, stepCredentials),
		"CA switched before the credentials":        l.switched(3, stepCredentials),
		"bundle switched after the download":        showing(stepValidate, "CA bundle has changed", l.good, l.shown, bundle(l.evil)),
		"a certificate for another name":            showing(stepValidate, `connect to one of ["s1.example" "\x1b[2J"] [], or start the server with --tls-san 127.0.0.1`, issue(t, l.ours, otherName), l.shown),
		"an expired certificate":                    showing(stepValidate, "has expired or is not valid", issue(t, l.ours, expired), l.shown),
		"a certificate from the future":             showing(stepValidate, "has expired or is not valid", issue(t, l.ours, future), l.shown),
		"a client's certificate":                    showing(stepValidate, "has expired or is not valid", issue(t, l.ours, client), l.shown),
		"a self-signed certificate":                 showing(stepValidate, "not signed by the trusted CA", issue(t, nil), l.shown),
		"a redirect on /cacerts":                    l.redirecting(stepDownload, "/cacerts"),
		"a redirect on readyz":                      l.redirecting(stepCredentials, "/readyz"),
		"a bundle of more than 64 KiB":              showing(stepDownload, incomplete, l.good, append(bytes.Repeat([]byte("#"), 64<<10), l.shown...)),
		"a thousand certificates":                   showing(stepDownload, incomplete, l.good, bytes.Repeat(l.shown, 1000)),
		"a body that never ends": l.raw(incomplete, func(w io.Writer) {
			_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			for err == nil {
				_, err = w.Write(make([]byte, 4<<10))
			}
		}),
		"a compressed bomb":            l.body("Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00"), // taken for what it is
		"no PEM":                       l.body("", "<html>hi</html>"),
		"an empty bundle":              l.body("", ""),
		"a PEM that is no certificate": l.body("", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")}))),
		"huge headers":                 l.text(incomplete, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"),
		"endless informational":        l.text(incomplete, strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 1000)+"\r\n\r\n", 1000)),
		"no HTTP":                      l.text(incomplete, "SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n"),
		"cut in the status line":       l.text(incomplete, "HTTP/1.1 2"),
		"cut in the headers":           l.text(incomplete, "HTTP/1.1 200 OK\r\nContent-Le"),
		"cut in the body":              l.text(incomplete, "HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n-----BEGIN CERT"),
		"cut in the chunks":            l.text(incomplete, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab"),
		"cut before the answer":        l.text(incomplete, ""),
		"a Kubernetes API":             l.text("status 403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
		"status 500":                   l.text("status 500", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
		"status 503 again and again":   l.text("status 503", "HTTP/1.1 503 Oops\r\nContent-Length: 0\r\n\r\n"),
		"status 429 again and again":   l.text("status 429", "HTTP/1.1 429 Oops\r\nRetry-After: 99999999\r\nContent-Length: 0\r\n\r\n"),
		"SSH on the port":              tcp("does not speak TLS", func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n") }),
		"closed at once":               tcp(incomplete, func(net.Conn) {}),
		"a handshake, then nothing":    l.handshake(incomplete, tls.VersionTLS13),
		"TLS 1.1":                      l.handshake("TLS 1.2", tls.VersionTLS11),
		"plain HTTP":                   nowhere("does not speak TLS", strings.Replace(plain.URL, "http:", "https:", 1)),
		"nothing listens":              nowhere("nothing listens", nobody),
		"no such name":                 nowhere("cannot reach s1.invalid:443", "https://s1.invalid"),
		"readyz of a Kubernetes API": l.readyz("not a running K3s supervisor", func(w http.ResponseWriter, r *http.Request) {
			sendStatus(w, http.StatusForbidden, fmt.Sprintf(`forbidden: User "system:anonymous" cannot get path %q`, r.URL.Path))
		}),
		"readyz of a web server":         l.readyz("not a running K3s supervisor", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }),
		"readyz of a server that starts": l.readyz("wait if it is starting", func(w http.ResponseWriter, _ *http.Request) { sendStatus(w, 401, "not authorized") }),
		"readyz busy":                    l.readyz("status 429", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }),
		"readyz of more than 64 KiB": l.readyz(incomplete, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(bytes.Repeat([]byte(" "), 65<<10))
		}),
		"readyz cut in the body": l.readyz(incomplete, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusForbidden)
		}),
	}
}

// withstand has a client verify tokens against the attacker.
func (a attack) withstand(t *testing.T, hash string) {
	t.Helper()
	for _, credentials := range joining {
		w := &witness{}
		report, err := supervisor.Verify(t.Context(), a.start(t, w), parse(t, "K10"+hash+"::"+credentials), quick(""))
		if len(report.Steps) != a.step || err == nil || !strings.Contains(err.Error()+hint(err), a.says) {
			t.Fatalf("got %v, want an error of step %d that says %q", err, a.step, a.says)
		}
		if last := report.Steps[a.step-1]; last.Number != a.step || last.Status != supervisor.Failed || !strings.HasSuffix(err.Error(), last.Detail) {
			t.Errorf("the last step reported is %+v", last)
		}
		if report.Finding != (supervisor.Finding{}) {
			t.Errorf("found %+v without sending anything", report.Finding)
		}
		checkError(t, err)
		w.sawNothing(t)
	}
}

func TestHostileServersNeverSeeCredentials(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for name, a := range attacks(t, l) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a.withstand(t, hashOf(t, l.shown))
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
	showing(stepValidate, "not signed by the trusted CA", l.bad, shown).withstand(t, hashOf(t, genuine))
}

func TestSlowServersAreBoundedByTheTimeout(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	drip := func(prefix string) attack {
		return l.raw("did not answer in time", func(w io.Writer) {
			_, err := io.WriteString(w, prefix)
			for err == nil {
				time.Sleep(10 * time.Millisecond)
				_, err = io.WriteString(w, "x")
			}
		})
	}
	for name, a := range map[string]attack{
		"drips in the body":   drip("HTTP/1.1 200 OK\r\n\r\n"),
		"drips in the header": drip("HTTP/1.1 200 OK\r\nX: "),
		"never shakes hands":  tcp("did not answer in time", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &witness{}
			u, opts := a.start(t, w), quick(hashOf(t, l.shown))
			opts.Timeout = 150 * time.Millisecond
			began := time.Now()
			_, err := supervisor.Connect(t.Context(), u, opts)
			if err == nil || !strings.Contains(err.Error(), a.says) || time.Since(began) > 10*time.Second {
				t.Errorf("got %v after %s, want a time-out", err, time.Since(began))
			}
			ctx, cancel := context.WithCancel(t.Context())
			opts.Timeout = time.Minute
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := supervisor.Connect(ctx, u, opts); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want a cancellation", err)
			}
			w.sawNothing(t)
		})
	}
}

func TestEchoedCredentialsDoNotGetIntoErrors(t *testing.T) {
	t.Parallel()
	raw := func(format string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, secret string) { hijack(w, fmt.Sprintf(format, secret)) }
	}
	for name, echo := range map[string]func(w http.ResponseWriter, secret string){
		"in a Status": func(w http.ResponseWriter, secret string) { sendStatus(w, http.StatusTeapot, secret) },
		"in a header": func(w http.ResponseWriter, secret string) {
			w.Header().Set("Location", "http://%"+secret)
			w.WriteHeader(http.StatusFound)
		},
		"as no HTTP":       raw("%s\r\n\r\n"),
		"as a version":     raw("HTTP/%s 200 OK\r\n\r\n"),
		"as a status":      raw("HTTP/1.1 %s X\r\n\r\n"),
		"as a header name": raw("HTTP/1.1 200 OK\r\n%s\r\n\r\n"),
		"as an error ID": func(w http.ResponseWriter, secret string) {
			sendStatus(w, http.StatusInternalServerError, "token error ID "+secret)
		},
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
			for _, credentials := range joining {
				report, err := supervisor.Verify(t.Context(), u, parse(t, "K10"+k.hash+"::"+credentials), quick(""))
				checkError(t, err)
				if text := fmt.Sprintf("%+v", report); holdsSecret(text) {
					t.Errorf("the report holds a secret: %s", text)
				}
			}
			r := connect(t, u, quick(k.hash)).Rotate(t.Context(), parse(t, serverPassword), newPassword)
			checkError(t, r.Err)
			if text := fmt.Sprintf("%+v", r); holdsSecret(text) {
				t.Errorf("the rotation holds a secret: %s", text)
			}
		})
	}
}
