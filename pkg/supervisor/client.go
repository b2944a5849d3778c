package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// maxBytes bounds the header and the body of a response. A CA bundle of ten
// certificates has less than 20 KiB, every other body less than one.
const maxBytes = 64 << 10

// client sends requests to one server.
type client struct {
	server URL
	role   Role // of a joining node; empty for a client of its own
	opts   Options
	dialer pinnedDialer
	proxy  *url.URL // nil for a direct connection
}

func newClient(server URL, role Role, opts Options) *client {
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Second)
	if opts.Backoff.Steps == 0 {
		opts.Backoff = wait.Backoff{Steps: 4, Duration: 2 * time.Second}
	}
	if opts.ContextCA == nil {
		opts.ContextCA = func(context.Context) []byte { return nil }
	}
	c := &client{server: server, role: role, opts: opts}
	// net/http dials without the deadline of the request. With this one the dialer divides
	// the time among the addresses of a name.
	c.dialer.Timeout = opts.Timeout
	return c
}

// pinnedDialer makes every connection to the address that the first one
// reached. A name may stand for several servers, and a rotation that is
// repeated on another server damages the cluster.
type pinnedDialer struct {
	net.Dialer
	pinned atomic.Pointer[net.TCPAddr]
}

func (d *pinnedDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if pinned := d.pinned.Load(); pinned != nil {
		address = pinned.String()
	}
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err == nil {
		d.pinned.CompareAndSwap(nil, conn.RemoteAddr().(*net.TCPAddr))
	}
	return conn, err
}

// Remote returns the IP address to which all connections go. It is the zero value before
// the first one, and through a proxy, since only the proxy knows it.
func (c *client) Remote() netip.Addr {
	if pinned := c.dialer.pinned.Load(); pinned != nil && c.proxy == nil {
		return pinned.AddrPort().Addr()
	}
	return netip.Addr{}
}

// setProxy finds out which proxy leads to the server.
func (c *client) setProxy() (err error) {
	if c.opts.Proxy == nil {
		return nil
	}
	c.proxy, err = c.opts.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: c.server.hostPort()}})
	if err != nil { // it may quote a password
		return hint.New("the proxy setting is malformed", c.opts.ProxyHint)
	}
	return nil
}

func (c *client) checkProxyResponse(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return hint.New(fmt.Sprintf("the proxy refuses to connect (status %d)", resp.StatusCode), c.opts.ProxyHint)
	}
	return nil
}

// serverName returns the name or address that the server's certificate must have.
func (c *client) serverName() string {
	switch addr, _ := netip.ParseAddr(c.server.host); {
	case c.role == Server:
		return c.server.host
	case c.role == "":
		return cmp.Or(c.opts.ServerName, c.server.host)
	case addr.Is6():
		return "::1"
	}
	return "127.0.0.1"
}

// httpClient returns a client with bounds for a hostile server. It logs requests
// as client-go does, without credentials and bodies. Each request has a connection of
// its own, since an idle one may be dead.
func (c *client) httpClient(config *tls.Config) *http.Client {
	config.MinVersion = tls.VersionTLS12
	rt := transport.DebugWrappers(&http.Transport{
		Proxy:                  http.ProxyURL(c.proxy),
		OnProxyConnectResponse: c.checkProxyResponse,
		DialContext:            c.dialer.DialContext,
		TLSClientConfig:        config,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxBytes,
		DisableCompression:     true,
	})
	return &http.Client{
		Transport:     transport.NewUserAgentRoundTripper(rest.DefaultKubernetesUserAgent(), rt),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       c.opts.Timeout,
	}
}

// response is the server's answer. The status is 0 if there was none.
type response struct {
	sent         bool // the request may have left
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
func (c *client) do(ctx context.Context, hc *http.Client, method, path, authorization string, body []byte) (r response, err error) {
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { r.sent = true },
	})
	req, err := http.NewRequestWithContext(traced, method, c.server.String()+path, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return r, c.explain(ctx, err)
	}
	defer resp.Body.Close()
	r.status, r.certificates = resp.StatusCode, resp.TLS.PeerCertificates
	if r.body, err = io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxBytes)); err != nil {
		err = c.explain(ctx, err)
	}
	return r, err
}

// get sends a GET, and repeats it while the server is busy (429) or starting (503).
func (c *client) get(ctx context.Context, hc *http.Client, path, authorization string) (r response, err error) {
	_ = wait.ExponentialBackoffWithContext(ctx, c.opts.Backoff, func(ctx context.Context) (bool, error) {
		r, err = c.do(ctx, hc, http.MethodGet, path, authorization, nil)
		return err != nil || r.status != http.StatusTooManyRequests && r.status != http.StatusServiceUnavailable, nil
	})
	if ctx.Err() != nil {
		err = c.explain(ctx, ctx.Err())
	}
	return r, err
}

// cacerts downloads the CA bundle.
func (c *client) cacerts(ctx context.Context, hc *http.Client) (response, error) {
	r, err := c.get(ctx, hc, "/cacerts", "")
	if err == nil && r.status != http.StatusOK {
		err = hint.New(fmt.Sprintf("/cacerts answers with status %d", r.status), checkPort)
	}
	return r, err
}

// explain replaces an error of net/http. Its text may quote data of the server or of
// a proxy.
func (c *client) explain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	if own, ok := errors.AsType[*hint.Error](err); ok {
		return own
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return c.explainCertificate(certificate)
	}
	address := c.server.hostPort()
	var op string
	if e, ok := errors.AsType[*net.OpError](err); ok {
		op = e.Op
	}
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case op == "proxyconnect" || op == "socks connect":
		return hint.New("cannot reach the proxy for "+address, c.opts.ProxyHint)
	case utilnet.IsTimeout(err):
		return hint.New(address+" did not answer in time", "check address and firewall, or allow more time")
	case utilnet.IsConnectionRefused(err):
		return hint.New("nothing listens on "+address, "check the address, and that the server is running")
	case op == "dial":
		return hint.New("cannot reach "+address, "check the address, its DNS name and the network")
	case plain, errors.Is(err, http.ErrSchemeMismatch), op == "remote error", op == "local error": // alerts of crypto/tls
		return hint.New(address+" does not speak TLS 1.2 or newer", checkPort)
	}
	return hint.New(address+" gave no complete, valid answer", checkPort)
}

func (c *client) explainCertificate(err error) error {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names, addresses := e.Certificate.DNSNames, e.Certificate.IPAddresses
		advice := fmt.Sprintf("connect to one of %q %v, or start the server with --tls-san %s",
			names[:min(len(names), 8)], addresses[:min(len(addresses), 8)], c.server.host)
		if c.role == Agent {
			advice = "agents expect K3s's own certificate: let the load balancer pass TLS through to the servers"
		}
		return hint.New("the server's certificate is not for "+e.Host, advice)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return hint.New("the server's certificate is not signed by the trusted CA",
			"check that no load balancer ends TLS and nothing answers in place of the server; restart it if its CA was rotated")
	}
	return hint.New("the server's certificate has expired or is not valid",
		"check the clocks, and restart the server to renew its certificate")
}
