package supervisor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// maxBytes bounds the header and the body of a response. A CA bundle of ten
// certificates has less than 20 KiB, every other body less than one.
const maxBytes = 64 << 10

// pinnedDialer makes every connection to the address that the first one
// reached. A name may stand for several servers, and a rotation that is
// repeated on another server damages the cluster.
type pinnedDialer struct {
	net.Dialer
	pinned atomic.Value // string
}

func (d *pinnedDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if pinned, ok := d.pinned.Load().(string); ok {
		address = pinned
	}
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err == nil {
		d.pinned.CompareAndSwap(nil, conn.RemoteAddr().String())
	}
	return conn, err
}

// newClient returns a client with bounds for a hostile server. It logs requests
// as client-go does, without credentials and bodies. Each request has a connection of
// its own, since an idle one may be dead.
func (s *Session) newClient(config *tls.Config) *http.Client {
	config.MinVersion = tls.VersionTLS12
	rt := transport.DebugWrappers(&http.Transport{
		Proxy:                  http.ProxyURL(s.proxy),
		OnProxyConnectResponse: s.opts.checkProxyResponse,
		DialContext:            s.dialer.DialContext,
		TLSClientConfig:        config,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxBytes,
		DisableCompression:     true,
	})
	return &http.Client{
		Transport:     transport.NewUserAgentRoundTripper(rest.DefaultKubernetesUserAgent(), rt),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       s.opts.Timeout,
	}
}

func (o *Options) checkProxyResponse(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return hint.New(fmt.Sprintf("the proxy refuses to connect (status %d)", resp.StatusCode), o.ProxyHint)
	}
	return nil
}

// authorization returns the header for a token in a role. A node sends the user
// name of its role whatever the token says, and none with a bootstrap token.
func authorization(role Role, t token.Token) string {
	if t.ID != "" {
		return "Bearer " + t.WithCAHash("").Reveal()
	}
	user := token.UserNode
	if role == Server {
		user = token.UserServer
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+t.Secret.Reveal()))
}

// response is the server's answer. The status is 0 if there was none.
type response struct {
	status       int
	body         []byte
	certificates []*x509.Certificate // of the server
}

// message returns the message of a metav1.Status. It must not be printed, because
// the server may repeat the credentials in it.
func (r response) message() string {
	var status metav1.Status
	if json.Unmarshal(r.body, &status) != nil || status.Kind != "Status" {
		return ""
	}
	return status.Message
}

// do sends a request once, without credentials if authorization is empty. If it returns
// an error and a status, the body of the response is incomplete.
func (s *Session) do(ctx context.Context, c *http.Client, method, path, authorization string, body []byte) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.server.String()+path, bytes.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.Do(req)
	if err != nil {
		return response{}, s.explain(ctx, err)
	}
	defer resp.Body.Close()
	r := response{status: resp.StatusCode, certificates: resp.TLS.PeerCertificates}
	if r.body, err = io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxBytes)); err != nil {
		err = s.explain(ctx, err)
	}
	return r, err
}

// get sends a GET, and repeats it while the server is busy (429) or starting (503).
func (s *Session) get(ctx context.Context, c *http.Client, path, authorization string) (r response, err error) {
	_ = wait.ExponentialBackoffWithContext(ctx, s.opts.Backoff, func(ctx context.Context) (bool, error) {
		r, err = s.do(ctx, c, http.MethodGet, path, authorization, nil)
		return err != nil || r.status != http.StatusTooManyRequests && r.status != http.StatusServiceUnavailable, nil
	})
	if ctx.Err() != nil {
		err = s.explain(ctx, ctx.Err())
	}
	return r, err
}

// cacerts downloads the CA bundle.
func (s *Session) cacerts(ctx context.Context, c *http.Client) (response, error) {
	r, err := s.get(ctx, c, "/cacerts", "")
	if err == nil && r.status != http.StatusOK {
		err = hint.New(fmt.Sprintf("/cacerts answers with status %d", r.status), checkPort)
	}
	return r, err
}
