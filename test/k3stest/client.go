package k3stest

import (
	"context"
	"errors"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// requestTimeout bounds one request to a server on the same machine.
const requestTimeout = 30 * time.Second

// ReadyPath is the supervisor's path that shows whether an agent could join.
func (s *Server) ReadyPath() string { return "/v1-" + s.Program + "/readyz" }

// Accepts reports whether the supervisor lets an agent in that has the token, in
// secure or short format.
func (s *Server) Accepts(ctx context.Context, text string) (bool, error) {
	parsed, err := token.Parse(text)
	if err != nil {
		return false, err
	}
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: s.CAFile}, Timeout: requestTimeout}
	if parsed.Type() == token.Bootstrap {
		config.BearerToken = parsed.ID + "." + parsed.Secret.Reveal()
	} else { // agents name themselves so, whatever user the token names
		config.Username, config.Password = "node", parsed.Secret.Reveal()
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.SupervisorURL+s.ReadyPath(), nil)
	if err != nil {
		return false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusOK, response.Body.Close()
}

// connect makes the client, and returns the reason that the server cannot be used yet.
func (s *Server) connect(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Timeout = -1, requestTimeout
	if s.Core, err = corev1client.NewForConfig(config); err != nil {
		return err
	}
	api := s.Core.RESTClient()
	if err := api.Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	version, err := discovery.NewDiscoveryClient(api).ServerVersion()
	if err != nil {
		return err
	}
	s.Version = version.GitVersion
	if _, err := s.Core.ConfigMaps(metav1.NamespaceSystem).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
		return err
	}
	agentToken, err := s.AgentToken()
	if err != nil {
		return err
	}
	if ready, err := s.Accepts(ctx, agentToken); err != nil || !ready {
		return errors.Join(errors.New("the supervisor is not ready"), err)
	}
	return nil
}
