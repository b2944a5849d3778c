package supervisor

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
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
type URL struct {
	host, port string
}

// placeholder matches an unfilled part of a template or an example: <server>, {{ .host }},
// $HOST, %HOST%, [server], __HOST__, SERVER_IP or xxx.
var placeholder = regexp.MustCompile(`[<>{}$]|%\w+%|\[[^]:.]*\]|__|[A-Z]_[A-Z]|//[xX]{2,}(:|/|$)`)

// ParseURL parses the address of a server, which white space may surround. The default
// port is 443, as in K3s. It is an error if a node of K3s could not dial the address
// (parseURL in pkg/agent/loadbalancer/utility.go, setServer in pkg/clientaccess/token.go).
//
// Errors never quote the argument, because it may be a token passed by mistake.
func ParseURL(s string) (URL, error) {
	s = strings.TrimSpace(s)
	scheme, rest, found := strings.Cut(s, "://")
	parsed, err := url.Parse(strings.ToLower(s))
	if err != nil {
		parsed = &url.URL{}
	}
	port, err := strconv.ParseUint(cmp.Or(parsed.Port(), "443"), 10, 16)
	switch {
	case placeholder.MatchString(s):
		return URL{}, hint.New("the server URL has a placeholder that is not filled in", "put the server's name or address in its place")
	case strings.ContainsAny(s, "\"'`“”‘’«»"):
		return URL{}, hint.New("the server URL has quotes", "remove them")
	case !found:
		return URL{}, hint.New("the server URL has no scheme", "put https:// in front of it")
	case !strings.EqualFold(scheme, "https"):
		return URL{}, hint.New("the server URL does not start with https://", "use https://, also for a port that answers to http://")
	case strings.ContainsAny(rest, ",;|") || strings.Contains(rest, "://") || len(strings.Fields(rest)) > 1:
		return URL{}, hint.New("the server URL has several addresses", "name one server: a node learns of the others from it")
	case strings.ContainsAny(rest, "@?#"):
		return URL{}, hint.New("the server URL has more than host and port", "leave out the user, password, query or fragment")
	case err != nil || port == 0 || strings.HasSuffix(parsed.Host, ":") || !isHost(parsed.Hostname()):
		return URL{}, hint.New("the server URL has no valid host and port",
			"name a server that nodes reach, such as https://k3s.example.com:6443 or https://[2001:db8::1]:6443")
	case strings.Trim(parsed.EscapedPath(), "/") != "":
		return URL{}, hint.New("the server URL has a path", noProxy)
	}
	return URL{parsed.Hostname(), strconv.FormatUint(port, 10)}, nil
}

// isHost reports whether host is an IP address that can be dialled, without a zone,
// or a DNS name. Underscores pass, since container networks have names with them.
func isHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == "" && !addr.Unmap().IsUnspecified() && !addr.IsMulticast()
	}
	host = strings.TrimSuffix(host, ".")
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(validation.IsDNS1123Label(strings.ReplaceAll(label, "_", "x"))) > 0 {
			return false
		}
	}
	return len(host) <= validation.DNS1123SubdomainMaxLength && !isBrokenIPv4(labels)
}

// isBrokenIPv4 reports whether labels are all numbers, as in 10.0.0.256, or look like
// an IPv4 address of an example, as in 192.168.1.x and aaa.bbb.ccc.ddd.
func isBrokenIPv4(labels []string) bool {
	return !slices.ContainsFunc(labels, func(label string) bool {
		number := strings.Trim(label, "0123456789") == ""
		blank := len(labels) == 4 && strings.Trim(label, label[:1]) == ""
		return !number && !blank
	})
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
