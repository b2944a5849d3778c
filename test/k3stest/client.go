package k3stest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// requestTimeout bounds one request to a server on the same machine.
const requestTimeout = 30 * time.Second

// Credentials are how a request says who sends it; the zero value says nothing.
type Credentials struct {
	// Bearer is a bootstrap or ServiceAccount token.
	Bearer string
	// Username and Password are for the supervisor.
	Username, Password string
}

// TokenCredentials are what a joining agent sends for a K3s token in any of its
// forms. Agents name themselves "node" whatever user the token names.
func TokenCredentials(token string) Credentials {
	credentials := token
	if rest, secure := strings.CutPrefix(token, "K10"); secure {
		_, credentials, _ = strings.Cut(rest, "::")
	}
	if id, secret, ok := strings.Cut(credentials, "."); ok && len(id) == 6 && len(secret) == 16 {
		return Credentials{Bearer: credentials}
	}
	if user, password, ok := strings.Cut(credentials, ":"); ok && (user == "server" || user == "node") {
		credentials = password
	}
	return Credentials{Username: "node", Password: credentials}
}

// client sends requests to one server.
type client struct {
	base string
	http *http.Client
}

// do sends one request and reads the whole answer.
func (c *client) do(ctx context.Context, credentials Credentials, method, path, contentType string, body []byte) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	switch {
	case credentials.Bearer != "":
		request.Header.Set("Authorization", "Bearer "+credentials.Bearer)
	case credentials.Username != "":
		request.SetBasicAuth(credentials.Username, credentials.Password)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return response.StatusCode, content, nil
}

// Admin sends a request to the Kubernetes API as the cluster's administrator.
// The error is about the connection; what the server said is in the status.
func (s *Server) Admin(ctx context.Context, method, path, contentType string, body []byte) (status int, answer []byte, err error) {
	return s.admin.do(ctx, Credentials{}, method, path, contentType, body)
}

// API sends a request to the Kubernetes API with the given credentials only.
func (s *Server) API(ctx context.Context, credentials Credentials, method, path, contentType string, body []byte) (status int, answer []byte, err error) {
	anonymous := *s.supervisor
	anonymous.base = s.URL
	return anonymous.do(ctx, credentials, method, path, contentType, body)
}

// Supervisor sends a request without a body to the supervisor.
func (s *Server) Supervisor(ctx context.Context, credentials Credentials, method, path string) (status int, answer []byte, err error) {
	return s.supervisor.do(ctx, credentials, method, path, "", nil)
}

// ReadyPath is the supervisor's path that tells whether an agent could join.
func (s *Server) ReadyPath() string { return "/v1-" + s.Program + "/readyz" }

// connect makes the clients, from the certificates that the server has written.
func (s *Server) connect() error {
	tlsDir := filepath.Join(s.DataDir, "server", "tls")
	bundle, err := os.ReadFile(s.CAFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("%s holds no certificate", s.CAFile)
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(tlsDir, "client-admin.crt"), filepath.Join(tlsDir, "client-admin.key"))
	if err != nil {
		return err
	}
	s.admin = newClient(s.URL, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	s.supervisor = newClient(s.SupervisorURL, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	return nil
}

func newClient(base string, config *tls.Config) *client {
	// No connection is kept: one from before a restart would only fail.
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	return &client{base: base, http: &http.Client{Transport: transport, Timeout: requestTimeout}}
}

// awaitReady returns when the server can be used, when its process has ended,
// or when ctx is done; the error says what was missing.
func (s *Server) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		missing := s.missing(ctx)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), missing)
		case <-s.process.ended:
			return errors.New("its process ended")
		case <-ticker.C:
		}
	}
}

// missing says what still keeps the server from being used.
func (s *Server) missing(ctx context.Context) error {
	if err := s.connect(); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if _, err := s.get(ctx, "/readyz"); err != nil {
		return err
	}
	if _, err := s.get(ctx, "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"); err != nil {
		return err
	}
	if info, err := os.Stat(s.Kubeconfig); err != nil || info.Size() == 0 {
		return errors.New("kubeconfig is not written")
	}
	token, err := s.AgentToken()
	if err != nil {
		return err
	}
	status, _, err := s.Supervisor(ctx, TokenCredentials(token), http.MethodGet, s.ReadyPath())
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("supervisor: GET %s: status %d", s.ReadyPath(), status)
	}
	answer, err := s.get(ctx, "/version")
	if err != nil {
		return err
	}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(answer, &version); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	s.Version = version.GitVersion
	return nil
}

// get fetches a path of the API as administrator; only status 200 will do.
func (s *Server) get(ctx context.Context, path string) ([]byte, error) {
	status, answer, err := s.Admin(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d: %.300s", path, status, answer)
	}
	return answer, nil
}
