package k3stest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// requestTimeout bounds one request to a server on the same machine.
const requestTimeout = 30 * time.Second

// Credentials are how a request says who sends it; the zero value says nothing.
type Credentials struct {
	// Bearer is a bootstrap token.
	Bearer string
	// Username and Password are for the supervisor.
	Username, Password string
}

// TokenCredentials are the credentials that a joining agent sends for a K3s
// token in any of its forms. Agents name themselves "node" whatever user the
// token names.
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

// Supervisor sends a request without a body to the supervisor, and returns the
// status of the answer.
func (s *Server) Supervisor(ctx context.Context, credentials Credentials, method, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.SupervisorURL+path, nil)
	if err != nil {
		return 0, err
	}
	switch {
	case credentials.Bearer != "":
		request.Header.Set("Authorization", "Bearer "+credentials.Bearer)
	case credentials.Username != "":
		request.SetBasicAuth(credentials.Username, credentials.Password)
	}
	roots, err := s.roots()
	if err != nil {
		return 0, err
	}
	// No connection is kept: one from before a restart would only fail.
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func (s *Server) roots() (*x509.CertPool, error) {
	bundle, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("%s holds no certificate", s.CAFile)
	}
	return roots, nil
}

// ReadyPath is the supervisor's path that shows whether an agent could join.
func (s *Server) ReadyPath() string { return "/v1-" + s.Program + "/readyz" }

// awaitReady returns when the server can be used.
func (s *Server) awaitReady(ctx context.Context) error {
	return poll(ctx, s.process.ended, s.missing)
}

// AwaitNode returns when the cluster has a node of that name that is Ready.
func (s *Server) AwaitNode(ctx context.Context, name string) error {
	return poll(ctx, s.process.ended, func(ctx context.Context) error {
		node, err := s.Core.Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("node %s is not Ready", name)
	})
}

// missing returns the reason that the server cannot be used yet.
func (s *Server) missing(ctx context.Context) error {
	if err := s.connect(); err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	api := s.Core.RESTClient()
	if err := api.Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	if _, err := s.Core.ConfigMaps(metav1.NamespaceSystem).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
		return err
	}
	token, err := s.AgentToken()
	if err != nil {
		return err
	}
	status, err := s.Supervisor(ctx, TokenCredentials(token), http.MethodGet, s.ReadyPath())
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("supervisor: GET %s: status %d: %w", s.ReadyPath(), status, err)
	}
	answer, err := api.Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return err
	}
	var version struct{ GitVersion string }
	if err := json.Unmarshal(answer, &version); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	s.Version = version.GitVersion
	return nil
}

// connect makes the client of the kubeconfig that the server has written. That
// of a server on a host of its own is for use there: it gets the server's URL.
func (s *Server) connect() error {
	kubeconfig, err := clientcmd.LoadFromFile(s.Kubeconfig)
	if err != nil {
		return err
	}
	for _, cluster := range kubeconfig.Clusters {
		if cluster.Server != s.URL {
			cluster.Server = s.URL
			if err := clientcmd.WriteToFile(*kubeconfig, s.Kubeconfig); err != nil {
				return err
			}
		}
	}
	config, err := clientcmd.NewDefaultClientConfig(*kubeconfig, nil).ClientConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Timeout = -1, requestTimeout
	s.Core, err = corev1client.NewForConfig(config)
	return err
}
