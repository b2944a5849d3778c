package supervisor

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Distribution is a kind of Kubernetes. K3s and RKE2 share their code, and
// their supervisors differ in port and paths only (version.Program in K3s).
type Distribution string

// The distributions.
const (
	K3s   Distribution = "k3s"   // serves its supervisor on the port of the Kubernetes API
	RKE2  Distribution = "rke2"  // serves its supervisor on a port of its own
	Other Distribution = "other" // has no supervisor
)

// Port returns the supervisor's default port.
func (d Distribution) Port() string {
	if d == RKE2 {
		return "9345"
	}
	return "6443"
}

// URL is the address of a server: https, a host and a port. The zero value is
// no address.
type URL struct{ host, port string }

// ParseURL parses the address of a server. The default port is 443, as in K3s.
//
// Errors never quote the argument, because it may be a token passed by mistake.
func ParseURL(s string) (URL, error) {
	u, err := url.Parse(s)
	switch {
	case !strings.Contains(s, "://"):
		return URL{}, newError("the server URL has no scheme", "put https:// in front of it")
	case err != nil:
		return URL{}, errURL
	case u.Scheme != "https":
		return URL{}, newError("the server URL does not start with https://", "use https://, also for a port that answers to http://")
	case strings.Trim(u.Path, "/") != "":
		return URL{}, newError("the server URL has a path", noProxy)
	}
	host := strings.ToLower(u.Hostname())
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	if err != nil || port == 0 || !isHost(host) || u.User != nil || u.ForceQuery || u.RawQuery+u.Fragment != "" {
		return URL{}, errURL
	}
	return URL{host, strconv.FormatUint(port, 10)}, nil
}

// isHost reports whether host is an IP address without a zone or a DNS name.
// Underscores pass, since container networks have names with them.
func isHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	return len(validation.IsDNS1123Subdomain(strings.ReplaceAll(host, "_", "-"))) == 0
}

// String returns https://<host>:<port>, or "" for the zero value.
func (u URL) String() string {
	if u == (URL{}) {
		return ""
	}
	return "https://" + u.hostPort()
}

// Host returns the DNS name or the IP address, without brackets.
func (u URL) Host() string { return u.host }

// Port returns the port as digits.
func (u URL) Port() string { return u.port }

func (u URL) hostPort() string { return net.JoinHostPort(u.host, u.port) }
