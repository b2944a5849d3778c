package supervisor

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Distribution is the name under which a supervisor speaks. K3s and RKE2 are
// the same code, with the name in the paths of the requests (version.Program
// in K3s).
type Distribution string

const (
	// K3s serves its supervisor on the port of the Kubernetes API.
	K3s Distribution = "k3s"
	// RKE2 serves its supervisor on a port of its own.
	RKE2 Distribution = "rke2"
)

// Port is where the supervisor listens unless it is told otherwise.
func (d Distribution) Port() string {
	if d == RKE2 {
		return "9345"
	}
	return "6443"
}

// URL returns the address of the supervisor on a host, a name or an IP address
// without brackets, at the distribution's port.
func (d Distribution) URL(host string) (URL, error) {
	return ParseURL("https://" + net.JoinHostPort(host, d.Port()))
}

// path returns the path of a request such as "readyz".
func (d Distribution) path(request string) string { return "/v1-" + string(d) + "/" + request }

// URL is the address of a supervisor: https, a host and a port. The zero value
// is no address; ParseURL makes one.
type URL struct{ host, port string }

// ParseURL reads the address of a supervisor. As in K3s, a missing port is
// 443, the port of https; Distribution.URL knows the usual one.
//
// The error never quotes the argument: whoever mixes up two arguments passes a
// token here.
func ParseURL(s string) (URL, error) {
	scheme, _, found := strings.Cut(s, "://")
	switch {
	case s == "":
		return URL{}, errors.New("the server URL is empty: write https://<host>:<port>")
	case strings.HasPrefix(s, "K10"):
		return URL{}, errors.New("the server URL is a token: the two may have been swapped")
	case !found:
		return URL{}, errors.New("the server URL has no scheme: put https:// in front of it")
	case strings.EqualFold(scheme, "http"):
		return URL{}, errors.New("the server URL starts with http://, which would show the token to everybody on the way: a K3s server answers to https:// on the same port")
	case !strings.EqualFold(scheme, "https"):
		return URL{}, errors.New("the server URL has an unknown scheme: write https://<host>:<port>")
	}
	u, err := url.Parse(s)
	if err != nil {
		return URL{}, errors.New("the server URL cannot be parsed: write https://<host>:<port>, and an IPv6 address in brackets")
	}
	switch {
	case u.User != nil:
		return URL{}, errors.New("the server URL has a user name in it: a token is passed separately, write https://<host>:<port>")
	case strings.Trim(u.Path, "/") != "":
		return URL{}, errors.New("the server URL has a path: give the K3s server's own address, https://<host>:<port>, not that of a proxy such as Rancher")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return URL{}, errors.New("the server URL has a query or a fragment: write https://<host>:<port>")
	}
	host, port := u.Hostname(), u.Port()
	if !isHost(host) {
		return URL{}, errors.New("the server URL has no valid host: write https://<host>:<port> with a DNS name (IDN in its xn-- form) or an IP address without a zone")
	}
	if port == "" {
		port = "443"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return URL{}, errors.New("the server URL has no valid port: use one from 1 to 65535")
	}
	return URL{host: strings.ToLower(host), port: strconv.FormatUint(n, 10)}, nil
}

// isHost tells whether a host can be dialled and be named by a certificate.
func isHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for i := range len(host) {
		c := host[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// String returns the address as https://<host>:<port>, and nothing for the
// zero value.
func (u URL) String() string {
	if u == (URL{}) {
		return ""
	}
	return "https://" + u.HostPort()
}

// HostPort returns the address as <host>:<port>.
func (u URL) HostPort() string { return net.JoinHostPort(u.host, u.port) }

// Host returns the DNS name or the IP address, without brackets.
func (u URL) Host() string { return u.host }

// Port returns the port, in digits.
func (u URL) Port() string { return u.port }
