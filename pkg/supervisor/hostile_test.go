package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// attack is a server that means ill, and what a client must say of it.
type attack struct {
	server URL
	// witnesses are all that the attacker hears.
	witnesses []*witness
	// caHash is what the token carries.
	caHash string
	// step is where the attack must be noticed.
	step int
	// says is a part of the error.
	says string
	// is, if set, is in the chain of the error.
	is error
}

// impostor answers everything, and gives each of the caller's credentials what
// they are after.
func impostor(bundle func(n int) []byte) http.Handler {
	var n atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		switch {
		case r.URL.Path == "/cacerts":
			_, _ = w.Write(bundle(int(n.Add(1))))
		case r.Header.Get("Authorization") == "":
			sendStatus(w, http.StatusForbidden, "forbidden")
		case strings.HasSuffix(r.URL.Path, "/token"):
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
}

func showing(bundle []byte) func(int) []byte { return func(int) []byte { return bundle } }

// answering is a server behind TLS that writes the same to whoever asks.
func answering(t *testing.T, cert tls.Certificate, answer func(io.Writer)) (URL, *witness) {
	t.Helper()
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	w := &witness{}
	u, raw := serveRaw(t, func(conn net.Conn) {
		secure := watchedConn{tls.Server(conn, config), w}
		reader := bufio.NewReader(secure)
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		answer(secure)
		_ = secure.Conn.(*tls.Conn).CloseWrite()
	})
	_ = raw // sees the same, encrypted
	return u, w
}

func attacks(t *testing.T) map[string]func(t *testing.T) attack {
	ours := newCA(t, "k3s-server-ca", nil)
	evil := newCA(t, "k3s-server-ca", nil)
	hash := hashOf(t, bundle(ours))
	good := ours.issue(t, leaf{})
	one := func(u URL, w *witness) attack {
		return attack{server: u, witnesses: []*witness{w}, caHash: hash}
	}
	// raw is an attack by what is answered to the very first request.
	raw := func(says string, answer func(io.Writer)) func(*testing.T) attack {
		return func(t *testing.T) attack {
			a := one(answering(t, good, answer))
			a.step, a.says = StepDownload, says
			return a
		}
	}
	text := func(s string) func(io.Writer) {
		return func(w io.Writer) { _, _ = io.WriteString(w, s) }
	}
	// later is an attack by what is answered once the server is trusted.
	later := func(step int, says string, is error, answer http.HandlerFunc) func(*testing.T) attack {
		return func(t *testing.T) attack {
			k := &k3s{program: "k3s", bundle: bundle(ours)}
			a := one(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/cacerts" {
					k.ServeHTTP(w, r)
					return
				}
				answer(w, r)
			}), always(good)))
			a.step, a.says, a.is = step, says, is
			return a
		}
	}
	return map[string]func(t *testing.T) attack{
		"another CA than the hash": func(t *testing.T) attack {
			a := one(serve(t, impostor(showing(bundle(evil))), always(evil.issue(t, leaf{}))))
			a.step, a.says = StepCompare, "another cluster"
			return a
		},
		"the right CA's bundle, with a certificate of another": func(t *testing.T) attack {
			a := one(serve(t, impostor(showing(bundle(ours))), always(evil.issue(t, leaf{}))))
			a.step, a.says = StepValidate, "not signed by the CA"
			return a
		},
		"CA switched between the download and the validation": func(t *testing.T) attack {
			evilLeaf := evil.issue(t, leaf{})
			a := one(serve(t, impostor(showing(bundle(ours))), func(n int) tls.Certificate {
				if n == 1 {
					return good
				}
				return evilLeaf
			}))
			a.step, a.says = StepValidate, "not signed by the CA"
			return a
		},
		"bundle switched between the download and the validation": func(t *testing.T) attack {
			a := one(serve(t, impostor(func(n int) []byte {
				if n == 1 {
					return bundle(ours)
				}
				return bundle(evil)
			}), always(good)))
			a.step, a.says, a.is = StepValidate, "another CA bundle", ErrBundleChanged
			return a
		},
		"CA switched right after the validation": func(t *testing.T) attack {
			evilLeaf := evil.issue(t, leaf{})
			a := one(serve(t, impostor(showing(bundle(ours))), func(n int) tls.Certificate {
				if n <= 2 {
					return good
				}
				return evilLeaf
			}))
			a.step, a.says = StepCredentials, "not signed by the CA"
			return a
		},
		"CA switched before the credentials": func(t *testing.T) attack {
			evilLeaf := evil.issue(t, leaf{})
			a := one(serve(t, impostor(showing(bundle(ours))), func(n int) tls.Certificate {
				if n <= 3 {
					return good
				}
				return evilLeaf
			}))
			a.step, a.says = StepCredentials, "not signed by the CA"
			return a
		},
		"a CA of its own added to the real bundle": func(t *testing.T) attack {
			intermediate := newCA(t, "k3s-server-ca", ours)
			shown := bundle(intermediate, ours, evil)
			a := one(serve(t, impostor(showing(shown)), always(evil.issue(t, leaf{}))))
			// K3s's hash is the root's alone, so it does not change.
			a.caHash = hashOf(t, bundle(intermediate, ours))
			if hashOf(t, shown) != a.caHash {
				t.Fatal("the added CA changes the hash: the test attacks nothing")
			}
			a.step, a.says = StepValidate, "not signed by the CA"
			return a
		},
		"the right CA, a certificate for another name": func(t *testing.T) attack {
			a := one(serve(t, impostor(showing(bundle(ours))), always(ours.issue(t, leaf{names: []string{"s1.example", "\x1b[2J"}, addresses: []string{"192.0.2.1"}}))))
			a.step, a.says = StepValidate, "not for 127.0.0.1 but for s1.example, ?[2J, 192.0.2.1"
			return a
		},
		"an expired certificate": func(t *testing.T) attack {
			a := one(serve(t, impostor(showing(bundle(ours))), always(ours.issue(t, leaf{expired: true}))))
			a.step, a.says = StepValidate, "check the clocks"
			return a
		},
		"a certificate from the future": func(t *testing.T) attack {
			a := one(serve(t, impostor(showing(bundle(ours))), always(ours.issue(t, leaf{future: true}))))
			a.step, a.says = StepValidate, "check the clocks"
			return a
		},
		"a self-signed certificate": func(t *testing.T) attack {
			a := one(serve(t, impostor(showing(bundle(ours))), always(selfSigned(t))))
			a.step, a.says = StepValidate, "not signed by the CA"
			return a
		},
		"a redirect on /cacerts": func(t *testing.T) attack {
			catcher, caught := serve(t, impostor(showing(bundle(ours))), always(good))
			a := one(serve(t, http.RedirectHandler(catcher.String()+"/cacerts", http.StatusFound), always(good)))
			a.witnesses = append(a.witnesses, caught)
			a.step, a.says, a.is = StepDownload, "redirect", ErrRedirect
			return a
		},
		"a redirect on readyz": func(t *testing.T) attack {
			catcher, caught := serve(t, impostor(showing(bundle(ours))), always(good))
			a := later(StepCredentials, "redirect", ErrRedirect, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, catcher.String()+r.URL.Path, http.StatusTemporaryRedirect)
			})(t)
			a.witnesses = append(a.witnesses, caught)
			return a
		},
		"a bundle of more than 1 MiB": raw("more than 1024 KiB", func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s", bytes.Repeat([]byte("x"), maxBundle+1))
		}),
		"a body that never ends": raw("more than 1024 KiB", func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			for {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
					return
				}
			}
		}),
		"a compressed bomb": func(t *testing.T) attack {
			// Nobody asked for gzip, so it is taken for what it is: no PEM.
			a := raw("no certificate", text("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\x1f\x8b\x08\x00"))(t)
			a.step, a.is = StepHash, ErrNotSupervisor
			return a
		},
		"a body that is no PEM": func(t *testing.T) attack {
			a := raw("no certificate", text("HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>"))(t)
			a.step, a.is = StepHash, ErrNotSupervisor
			return a
		},
		"a PEM that is no certificate": func(t *testing.T) attack {
			junk := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")}))
			a := raw("cannot be parsed", text(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(junk), junk)))(t)
			a.step = StepHash
			return a
		},
		"an empty bundle": raw("is empty", text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
		"a thousand certificates": func(t *testing.T) attack {
			shown := bytes.Repeat(bundle(ours), 1000)
			a := one(serve(t, impostor(showing(shown)), always(good)))
			a.step, a.says, a.is = StepHash, "1000 certificates", ErrTooLarge
			return a
		},
		"huge headers":                raw("within the limits", text("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")),
		"endless informational":       raw("within the limits", text(strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 1000)+"\r\n\r\n", 1000))),
		"no HTTP":                     raw("valid HTTP", text("SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n")),
		"cut in the status line":      raw("valid HTTP", text("HTTP/1.1 2")),
		"cut in the headers":          raw("valid HTTP", text("HTTP/1.1 200 OK\r\nContent-Le")),
		"cut in the body":             raw("closed the connection", text("HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n-----BEGIN CERT")),
		"cut before the answer":       raw("closed the connection", text("")),
		"cut in the chunks":           raw("closed the connection", text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab")),
		"a Kubernetes API, forbidden": raw("no public /cacerts", text("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
		"status 500":                  raw("status 500", text("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
		"status 503 again and again":  raw("status 503", text("HTTP/1.1 503 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
		"status 429 again and again":  raw("status 429", text("HTTP/1.1 429 Oops\r\nRetry-After: 99999999\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
		"plain HTTP": func(t *testing.T) attack {
			plain := httptest.NewServer(impostor(showing(bundle(ours))))
			t.Cleanup(plain.Close)
			a := one(address(t, plain.Listener), &witness{})
			a.step, a.says = StepDownload, "does not speak TLS"
			return a
		},
		"SSH on the port": func(t *testing.T) attack {
			a := one(serveRaw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n") }))
			a.step, a.says = StepDownload, "does not speak TLS"
			return a
		},
		"TLS handshake, then close": func(t *testing.T) attack {
			a := one(serveRaw(t, func(conn net.Conn) {
				_ = tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{good}}).HandshakeContext(t.Context())
			}))
			a.step, a.says = StepDownload, "closed the connection"
			return a
		},
		"close at once": func(t *testing.T) attack {
			a := one(serveRaw(t, func(net.Conn) {}))
			a.step, a.says = StepDownload, "closed the connection"
			return a
		},
		"nobody listens": func(t *testing.T) attack {
			l := listen(t)
			u := address(t, l)
			_ = l.Close()
			a := one(u, &witness{})
			a.step, a.says = StepDownload, "nothing listens"
			return a
		},
		"TLS 1.1": func(t *testing.T) attack {
			a := one(serveRaw(t, func(conn net.Conn) {
				_ = tls.Server(conn, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{good}}).HandshakeContext(t.Context())
			}))
			a.step, a.says = StepDownload, "TLS"
			return a
		},
		"readyz of a Kubernetes API": later(StepCredentials, "Rancher server or another proxy", ErrNotSupervisor, func(w http.ResponseWriter, r *http.Request) {
			sendStatus(w, http.StatusForbidden, fmt.Sprintf(`forbidden: User "system:anonymous" cannot get path %q`, r.URL.Path))
		}),
		"readyz of a web server": later(StepCredentials, "Rancher server or another proxy", ErrNotSupervisor, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>")
		}),
		"readyz of a server that starts": later(StepCredentials, "still starting", nil, func(w http.ResponseWriter, _ *http.Request) {
			sendStatus(w, http.StatusUnauthorized, "not authorized")
		}),
		"readyz busy": later(StepCredentials, "busy", nil, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
		}),
		"readyz of more than 64 KiB": later(StepCredentials, "too large", ErrTooLarge, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+1))
		}),
		"readyz cut in the body": later(StepCredentials, "closed the connection", nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusForbidden)
		}),
	}
}

func TestHostileServersNeverSeeCredentials(t *testing.T) {
	t.Parallel()
	for name, prepare := range attacks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, credentials := range []string{"server:" + serverPassword, "node:" + agentPassword, bootstrapToken} {
				a := prepare(t)
				tok := parse(t, "K10"+a.caHash+"::"+credentials)
				report, err := Verify(t.Context(), a.server, tok, quick(""))
				var step *StepError
				if !errors.As(err, &step) {
					t.Fatalf("got %v, want the error of a step", err)
				}
				if step.Step != a.step || !strings.Contains(err.Error(), a.says) || a.is != nil && !errors.Is(err, a.is) {
					t.Errorf("got %q, want one of step %d that says %q and is %v", err, a.step, a.says, a.is)
				}
				if last := report.Steps[len(report.Steps)-1]; last.Number != a.step || last.Status != Failed || last.Detail != step.Err.Error() {
					t.Errorf("the last step reported is %+v", last)
				}
				if report.Finding != (Finding{}) {
					t.Errorf("found %+v without sending anything", report.Finding)
				}
				if text := err.Error(); printable(text) != text && len(text) < 300 {
					t.Errorf("the error has control characters: %q", text)
				}
				noSecretIn(t, err)
				for _, w := range a.witnesses {
					w.sawNothing(t)
				}
			}
		})
	}
}

// Whether the client has written its request when the server closes the
// connection is chance. Here it has not, which net/http tells in words alone.
func TestAConnectionClosedBeforeTheRequestIsSaidToBeClosed(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "k3s-server-ca", nil)
	cert := ca.issue(t, leaf{})
	closed := make(chan struct{})
	u, _ := serveRaw(t, func(conn net.Conn) {
		defer close(closed)
		secure := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}})
		_ = secure.HandshakeContext(t.Context())
		_ = conn.Close()
	})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		<-closed
		time.Sleep(50 * time.Millisecond) // until the transport has noticed
	}})
	_, err := Connect(ctx, u, quick(hashOf(t, bundle(ca))))
	if err == nil || !strings.Contains(err.Error(), "closed the connection") || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want that the server closed the connection", err)
	}
}

func TestSlowServersAreBoundedByTheTimeout(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "k3s-server-ca", nil)
	cert := ca.issue(t, leaf{})
	drip := func(prefix string) func(io.Writer) {
		return func(w io.Writer) {
			_, _ = io.WriteString(w, prefix)
			for {
				time.Sleep(10 * time.Millisecond)
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
			}
		}
	}
	for name, start := range map[string]func(*testing.T) (URL, *witness){
		"drips in the body":   func(t *testing.T) (URL, *witness) { return answering(t, cert, drip("HTTP/1.1 200 OK\r\n\r\n")) },
		"drips in the header": func(t *testing.T) (URL, *witness) { return answering(t, cert, drip("HTTP/1.1 200 OK\r\nX: ")) },
		"never shakes hands": func(t *testing.T) (URL, *witness) {
			return serveRaw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, w := start(t)
			opts := quick(hashOf(t, bundle(ca)))
			opts.Timeout = 150 * time.Millisecond
			began := time.Now()
			_, err := Connect(t.Context(), u, opts)
			if err == nil || !strings.Contains(err.Error(), "did not answer in time") || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want a timeout", err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %s", took)
			}
			w.sawNothing(t)

			ctx, cancel := context.WithCancel(t.Context())
			opts.Timeout = time.Minute
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := Connect(ctx, u, opts); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want a cancellation", err)
			}
			w.sawNothing(t)
		})
	}
}

func TestAServerThatEchoesCredentialsDoesNotGetThemIntoErrors(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "k3s-server-ca", nil)
	cert := ca.issue(t, leaf{})
	k := &k3s{program: "k3s", bundle: bundle(ca)}
	for name, echo := range map[string]func(w http.ResponseWriter, secret string){
		"in a Status": func(w http.ResponseWriter, secret string) { sendStatus(w, http.StatusTeapot, secret) },
		"in a header": func(w http.ResponseWriter, secret string) {
			w.Header().Set("Location", secret)
			w.WriteHeader(http.StatusFound)
		},
		"as no HTTP":   func(w http.ResponseWriter, secret string) { hijack(w, secret+"\r\n\r\n") },
		"as a version": func(w http.ResponseWriter, secret string) { hijack(w, "HTTP/"+secret+" 200 OK\r\n\r\n") },
		"as a reason":  func(w http.ResponseWriter, secret string) { hijack(w, "HTTP/1.1 999 "+secret+"\r\n\r\n") },
		"as a status":  func(w http.ResponseWriter, secret string) { hijack(w, "HTTP/1.1 "+secret+" X\r\n\r\n") },
		"as a length": func(w http.ResponseWriter, secret string) {
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: "+secret+"\r\n\r\n")
		},
		"as an encoding": func(w http.ResponseWriter, secret string) {
			hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: "+secret+"\r\n\r\n")
		},
		"as a header name": func(w http.ResponseWriter, secret string) { hijack(w, "HTTP/1.1 200 OK\r\n"+secret+"\r\n\r\n") },
		"as an error id": func(w http.ResponseWriter, secret string) {
			sendStatus(w, http.StatusInternalServerError, errorIDText+secret)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				header := r.Header.Get("Authorization")
				if header == "" {
					k.ServeHTTP(w, r)
					return
				}
				_, password, _ := r.BasicAuth()
				echo(w, password+strings.TrimPrefix(header, "Bearer "))
			}), always(cert))
			for _, credentials := range []string{"server:" + serverPassword, "node:" + agentPassword, bootstrapToken} {
				report, err := Verify(t.Context(), u, parse(t, "K10"+hashOf(t, k.bundle)+"::"+credentials), quick(""))
				if err == nil {
					t.Error("no error")
				}
				noSecretIn(t, err)
				if holdsSecret(fmt.Sprintf("%+v", report)) {
					t.Errorf("the report holds a secret: %+v", report)
				}
			}
			s := connect(t, u, quick(hashOf(t, k.bundle)))
			r := s.Rotate(t.Context(), parse(t, serverPassword), newToken(t))
			noSecretIn(t, r.Err)
			if holdsSecret(fmt.Sprintf("%+v", r)) {
				t.Errorf("the rotation holds a secret: %+v", r)
			}
		})
	}
}

// hijack writes on the connection itself, and closes it.
func hijack(w http.ResponseWriter, raw string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, raw)
	_ = conn.Close()
}
