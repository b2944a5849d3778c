// Package supervisortest plays the K3s supervisor for tests of what is sent to
// it. It answers by the rules of the real one (HasRole and router in K3s's
// pkg/server, and what was measured on v1.31.1+k3s1): to credentials, and to a
// rotation of the server token, of which the running servers know nothing
// until they are restarted.
package supervisortest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Certificates are valid at whatever time a test's clock shows.
var begin, end = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// Options say what kind of cluster to play.
type Options struct {
	// Program is "k3s" (the default) or "rke2".
	Program string
	// Password is the server token's.
	Password string
	// AgentPassword is the agent token's; if empty, the server token joins
	// agents as well.
	AgentPassword string
	// Bootstrap are bootstrap tokens, <id>.<secret>, that join agents.
	Bootstrap []string
}

// Cluster is some servers with one CA and one datastore.
type Cluster struct {
	// Bundle is what /cacerts shows, and CAHash its hash.
	Bundle []byte
	CAHash string

	options Options
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey

	mu       sync.Mutex
	password string // whose key the datastore is encrypted with
}

// NewCluster returns a cluster without servers.
func NewCluster(t testing.TB, options Options) *Cluster {
	t.Helper()
	if options.Program == "" {
		options.Program = "k3s"
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: options.Program + "-server-ca"},
		NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	c := &Cluster{options: options, ca: sign(t, template, template, key, key), key: key, password: options.Password}
	c.Bundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw})
	if c.CAHash, err = token.CAHash(c.Bundle, time.Now()); err != nil {
		t.Fatal(err)
	}
	return c
}

// Token returns a server token of the cluster's CA in secure format.
func (c *Cluster) Token(password string) string { return "K10" + c.CAHash + "::server:" + password }

// Password returns the password that the datastore is encrypted with: that of
// the last rotation.
func (c *Cluster) Password() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password
}

// A Put answers a rotation. Server.CarryOut does what K3s does.
type Put func(s *Server, w http.ResponseWriter, r *http.Request)

// Server is one server of a cluster.
type Server struct {
	// URL is https://127.0.0.1:<port>.
	URL string

	cluster *Cluster
	http    *httptest.Server

	mu       sync.Mutex
	password string // that it answers to
	onDisk   string // in server/token
	damaged  bool
	puts     []Put
	requests []Request
}

// Request is a request that a server has got.
type Request struct {
	Method, Path string
	// Authorization is the header.
	Authorization string
	Body          []byte
}

// NewServer starts a server on the loopback address, and stops it when the test
// is over.
func (c *Cluster) NewServer(t testing.TB) *Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: c.options.Program, Organization: []string{c.options.Program}},
		NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}, c.ca, key, c.key)
	s := &Server{cluster: c, password: c.Password(), onDisk: c.Password()}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, c.ca.Raw}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS12,
	}
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	s.URL = s.http.URL
	return s
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Stop has nothing listen at the server's address any more.
func (s *Server) Stop() { s.http.Close() }

// Restart has the server answer to the password that it was started with anew,
// and to nothing else.
func (s *Server) Restart(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password, s.onDisk = password, password
}

// OnPut says what the server does with the rotations to come, one after the
// other, the last one ever after.
func (s *Server) OnPut(puts ...Put) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = puts
}

// OnDisk returns the password that the server wrote into its token file, and
// whether that is neither the old nor the new one: the damage that a second
// rotation through another server does.
func (s *Server) OnDisk() (password string, damaged bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onDisk, s.damaged
}

// Requests returns the requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Puts returns those of the requests so far that were to rotate the token.
func (s *Server) Puts() []Request {
	return slices.DeleteFunc(s.Requests(), func(r Request) bool { return r.Method != http.MethodPut })
}

// SawCredentials tells whether a request so far had any.
func (s *Server) SawCredentials() bool {
	return slices.ContainsFunc(s.Requests(), func(r Request) bool { return r.Authorization != "" })
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Authorization: r.Header.Get("Authorization"), Body: body})
	var put Put
	if r.Method == http.MethodPut && len(s.puts) > 0 {
		put = s.puts[0]
		if len(s.puts) > 1 {
			s.puts = s.puts[1:]
		}
	}
	s.mu.Unlock()
	if put != nil {
		put(s, w, r)
		return
	}
	s.answer(w, r)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	prefix := "/v1-" + s.cluster.options.Program
	switch r.URL.Path {
	case "/cacerts":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(s.cluster.Bundle)
	case "/ping":
		_, _ = io.WriteString(w, "pong")
	case prefix + "/readyz":
		if s.authorize(w, r, "agent", "bootstrappers") {
			_, _ = io.WriteString(w, "ok")
		}
	case prefix + "/token":
		if s.authorize(w, r, "server") {
			s.rotate(w, r)
		}
	default:
		SendStatus(w, http.StatusUnauthorized, "Unauthorized") // the Kubernetes API
	}
}

// authorize is HasRole.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, roles ...string) bool {
	s.mu.Lock()
	serverPassword := s.password
	s.mu.Unlock()
	agentPassword := s.cluster.options.AgentPassword
	if agentPassword == "" {
		agentPassword = serverPassword
	}
	role, known := "", true
	if user, password, ok := r.BasicAuth(); ok {
		switch {
		case user == "server" && password == serverPassword:
			role = "server"
		case user == "node" && password == agentPassword:
			role = "agent"
		default:
			known = false
		}
	} else if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		role, known = "bootstrappers", slices.Contains(s.cluster.options.Bootstrap, bearer)
	}
	switch {
	case !known:
		SendStatus(w, http.StatusUnauthorized, "not authorized")
	case !slices.Contains(roles, role):
		SendStatus(w, http.StatusForbidden, "forbidden")
	default:
		return true
	}
	return false
}

// rotate is tokenRequestHandler.
func (s *Server) rotate(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		SendStatus(w, http.StatusMethodNotAllowed, "the server does not allow this method on the requested resource")
		return
	}
	var body struct{ NewToken *string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.NewToken == nil {
		SendStatus(w, http.StatusBadRequest, "no new token")
		return
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	// The server reads the datastore with what is on its own disk, and so does
	// not notice what another server has done before it is too late.
	if s.onDisk != s.cluster.password {
		s.onDisk, s.damaged = *body.NewToken, true
		SendStatus(w, http.StatusInternalServerError, "Internal error occurred: token error ID 54321")
		return
	}
	s.onDisk, s.cluster.password = *body.NewToken, *body.NewToken
}

// SendStatus answers with a Status as K3s and Kubernetes do.
func SendStatus(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "message": message, "code": code})
}

// CarryOut rotates the token.
func CarryOut(s *Server, w http.ResponseWriter, r *http.Request) { s.answer(w, r) }

// CutBefore closes the connection and does nothing else.
func CutBefore(_ *Server, w http.ResponseWriter, _ *http.Request) { cut(w, "") }

// CutAfter rotates the token and closes the connection.
func CutAfter(s *Server, w http.ResponseWriter, r *http.Request) {
	s.answer(httptest.NewRecorder(), r)
	cut(w, "")
}

// CutWithin rotates the token and closes the connection within the answer.
func CutWithin(s *Server, w http.ResponseWriter, r *http.Request) {
	s.answer(httptest.NewRecorder(), r)
	cut(w, "HTTP/1.1 20")
}

// HangAfter rotates the token and says nothing until the client is gone.
func HangAfter(s *Server, w http.ResponseWriter, r *http.Request) {
	s.answer(httptest.NewRecorder(), r)
	<-r.Context().Done()
	cut(w, "")
}

// Say answers with a status and does nothing else; with a Status of K3s where
// there is a message.
func Say(code int, message string) Put {
	return func(_ *Server, w http.ResponseWriter, _ *http.Request) {
		if message == "" {
			w.WriteHeader(code)
			return
		}
		SendStatus(w, code, message)
	}
}

// cut closes the connection behind the text.
func cut(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(fmt.Sprintf("supervisortest: %v", err))
	}
	_, _ = io.WriteString(conn, text)
	_ = conn.Close()
}
