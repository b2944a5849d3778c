package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
)

// inClusterTokenFile is where a Pod finds its credentials: a configuration that
// has them is the Pod's own (InClusterConfig in k8s.io/client-go/rest).
const inClusterTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path, not a credential

// JoinURL is the address that a joining node dials.
type JoinURL struct {
	// URL is https://host:port.
	URL string
	// Warning says why a node may not reach the cluster there; mostly empty.
	Warning string
}

// DefaultJoinURL derives the address from the one that the kubeconfig has for
// the API, which on K3s answers joining nodes as well.
func DefaultJoinURL(config *rest.Config, distribution Distribution) (JoinURL, error) {
	host := config.Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := url.Parse(host)
	if err != nil {
		// The reason alone: there may be a password in the URL.
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return JoinURL{}, fmt.Errorf("the kubeconfig's server is not a URL: %w", err)
	}
	join := JoinURL{}
	switch {
	case u.Scheme != "https":
		join.Warning = fmt.Sprintf("the kubeconfig's server is %s, and a node joins by https only: give the address that it will dial with --url", u.Redacted())
	case strings.Trim(u.Path, "/") != "":
		join.Warning = fmt.Sprintf("the kubeconfig's server is %s, a proxy that nodes cannot join through: give the address that they will dial with --url", u.Redacted())
	case config.BearerTokenFile == inClusterTokenFile:
		join.Warning = fmt.Sprintf("%s is the address of the API within the cluster: give the address that the node will dial with --url", u.Hostname())
	case isLoopback(u.Hostname()):
		join.Warning = fmt.Sprintf("%s is this machine only: give the address that the node will dial with --url", u.Hostname())
	}
	port := u.Port()
	switch {
	case distribution == RKE2:
		// RKE2 has two ports: the API's, which is in the kubeconfig, and the
		// supervisor's.
		port = RKE2.SupervisorPort()
	case port == "":
		port = "443"
	}
	join.URL = "https://" + net.JoinHostPort(u.Hostname(), port)
	return join, nil
}

// ParseJoinURL checks an address that a person gives for joining nodes. It
// stays as it is but for a slash at its end: a node dials port 443 where there
// is none.
func ParseJoinURL(s string, distribution Distribution) (JoinURL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return JoinURL{}, fmt.Errorf("%q is not the URL of a server: write it as https://<host>:%s", s, distribution.SupervisorPort())
	}
	switch {
	case u.Scheme != "https":
		return JoinURL{}, fmt.Errorf("%q: a node joins by https only: write https://%s", u.Redacted(), u.Host)
	case u.User != nil:
		return JoinURL{}, fmt.Errorf("%q: the URL of a server has no user name and password in it", u.Redacted())
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return JoinURL{}, fmt.Errorf("%q: the URL of a server has no path: write https://%s", s, u.Host)
	}
	join := JoinURL{URL: "https://" + u.Host}
	if isLoopback(u.Hostname()) {
		join.Warning = fmt.Sprintf("%s is the node itself, wherever the node is", u.Hostname())
	}
	return join, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
}
