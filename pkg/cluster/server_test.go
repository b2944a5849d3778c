package cluster_test

import (
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
)

func TestDefaultJoinURL(t *testing.T) {
	const (
		loopback = "is this machine only"
		proxy    = "a proxy that nodes cannot join through"
		plain    = "a node joins by https only"
	)
	tests := map[string]struct {
		host         string
		distribution cluster.Distribution
		url, warning string
	}{
		"usual":                     {"https://k3s.example.com:6443", cluster.K3s, "https://k3s.example.com:6443", ""},
		"slash behind":              {"https://k3s.example.com:6443/", cluster.K3s, "https://k3s.example.com:6443", ""},
		"other port":                {"https://k3s.example.com:8443", cluster.K3s, "https://k3s.example.com:8443", ""},
		"no port":                   {"https://k3s.example.com", cluster.K3s, "https://k3s.example.com:443", ""},
		"no scheme":                 {"k3s.example.com:6443", cluster.K3s, "https://k3s.example.com:6443", ""},
		"IPv4":                      {"https://192.0.2.7:6443", cluster.K3s, "https://192.0.2.7:6443", ""},
		"IPv6":                      {"https://[2001:db8::7]:6443", cluster.K3s, "https://[2001:db8::7]:6443", ""},
		"IPv6 without port":         {"https://[2001:db8::7]", cluster.K3s, "https://[2001:db8::7]:443", ""},
		"RKE2 has another port":     {"https://rke2.example.com:6443", cluster.RKE2, "https://rke2.example.com:9345", ""},
		"RKE2 without port":         {"https://rke2.example.com", cluster.RKE2, "https://rke2.example.com:9345", ""},
		"RKE2 on IPv6":              {"https://[2001:db8::7]:6443", cluster.RKE2, "https://[2001:db8::7]:9345", ""},
		"loopback by name":          {"https://localhost:6443", cluster.K3s, "https://localhost:6443", loopback},
		"loopback by another name":  {"https://LOCALHOST:6443", cluster.K3s, "https://LOCALHOST:6443", loopback},
		"loopback by IPv4":          {"https://127.0.0.1:6443", cluster.K3s, "https://127.0.0.1:6443", loopback},
		"loopback of the same net":  {"https://127.9.9.9:6443", cluster.K3s, "https://127.9.9.9:6443", loopback},
		"loopback by IPv6":          {"https://[::1]:6443", cluster.K3s, "https://[::1]:6443", loopback},
		"loopback by IPv4 in IPv6":  {"https://[::ffff:127.0.0.1]:6443", cluster.K3s, "https://[::ffff:127.0.0.1]:6443", loopback},
		"unspecified":               {"https://0.0.0.0:6443", cluster.K3s, "https://0.0.0.0:6443", loopback},
		"loopback of RKE2":          {"https://127.0.0.1:6443", cluster.RKE2, "https://127.0.0.1:9345", loopback},
		"a name that looks similar": {"https://localhost.example.com:6443", cluster.K3s, "https://localhost.example.com:6443", ""},
		"proxy with a path":         {"https://rancher.example.com/k8s/clusters/c-1", cluster.K3s, "https://rancher.example.com:443", proxy},
		"http":                      {"http://k3s.example.com:8080", cluster.K3s, "https://k3s.example.com:8080", plain},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := cluster.DefaultJoinURL(&rest.Config{Host: test.host}, test.distribution)
			if err != nil || got.URL != test.url {
				t.Errorf("%s leads to %q (%v), want %q", test.host, got.URL, err, test.url)
			}
			if (got.Warning != "") != (test.warning != "") || !strings.Contains(got.Warning, test.warning) {
				t.Errorf("warning %q, want %q", got.Warning, test.warning)
			}
			if test.warning != "" && !strings.Contains(got.Warning, "--url") {
				t.Errorf("warning %q does not say what to do", got.Warning)
			}
		})
	}
}

func TestDefaultJoinURLHidesAPassword(t *testing.T) {
	for _, host := range []string{"http://user:hunter2@example.com", "https://user:hunter2@example.com/proxy", "https://user:hunter2@example.com:port"} {
		got, err := cluster.DefaultJoinURL(&rest.Config{Host: host}, cluster.K3s)
		if err != nil && strings.Contains(err.Error(), "hunter2") || strings.Contains(got.URL+got.Warning, "hunter2") {
			t.Errorf("the password is shown: %v, %v", got, err)
		}
	}
}

func TestDefaultJoinURLOfWhatIsNoURL(t *testing.T) {
	for _, host := range []string{"https://k3s.example.com:port", "https://a b", "://"} {
		if got, err := cluster.DefaultJoinURL(&rest.Config{Host: host}, cluster.K3s); err == nil {
			t.Errorf("%s leads to %v", host, got)
		}
	}
}

func TestParseJoinURL(t *testing.T) {
	tests := map[string]struct{ in, url, warning string }{
		"usual":        {"https://k3s.example.com:6443", "https://k3s.example.com:6443", ""},
		"slash behind": {"https://k3s.example.com:6443/", "https://k3s.example.com:6443", ""},
		"no port":      {"https://k3s.example.com", "https://k3s.example.com", ""},
		"IPv6":         {"https://[2001:db8::7]:6443", "https://[2001:db8::7]:6443", ""},
		"RKE2's port":  {"https://rke2.example.com:9345", "https://rke2.example.com:9345", ""},
		"upper case":   {"HTTPS://k3s.example.com:6443", "https://k3s.example.com:6443", ""},
		"loopback":     {"https://127.0.0.1:6443", "https://127.0.0.1:6443", "127.0.0.1 is the node itself"},
		"localhost":    {"https://localhost:6443", "https://localhost:6443", "localhost is the node itself"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := cluster.ParseJoinURL(test.in, cluster.K3s)
			if err != nil || got.URL != test.url {
				t.Errorf("%s leads to %q (%v), want %q", test.in, got.URL, err, test.url)
			}
			if (got.Warning != "") != (test.warning != "") || !strings.Contains(got.Warning, test.warning) {
				t.Errorf("warning %q, want %q", got.Warning, test.warning)
			}
		})
	}
}

func TestParseJoinURLSaysWhatWouldBeRight(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "write it as https://<host>:6443",
		"k3s.example.com":                      "write it as https://<host>:6443",
		"k3s.example.com:6443":                 "write it as https://<host>:6443",
		"192.0.2.7:6443":                       "write it as https://<host>:6443",
		"https://":                             "write it as https://<host>:6443",
		"https://:6443":                        "write it as https://<host>:6443",
		"https:///path":                        "write it as https://<host>:6443",
		"https://k3s.example.com:port":         "write it as https://<host>:6443",
		"https://k3s.example.com:":             "write it as https://<host>:6443",
		"https://a b:6443":                     "write it as https://<host>:6443",
		"https://a\nb:6443":                    "write it as https://<host>:6443",
		"http://k3s.example.com:6443":          "write https://k3s.example.com:6443",
		"ssh://k3s.example.com:6443":           "write https://k3s.example.com:6443",
		"//k3s.example.com:6443":               "write https://k3s.example.com:6443",
		"https://user:pw@k3s.example.com:6443": "no user name and password",
		"https://user@k3s.example.com:6443":    "no user name and password",
		"https://k3s.example.com:6443/path":    "write https://k3s.example.com:6443",
		"https://k3s.example.com:6443/?a=b":    "write https://k3s.example.com:6443",
		"https://k3s.example.com:6443#a":       "write https://k3s.example.com:6443",
	} {
		got, err := cluster.ParseJoinURL(in, cluster.K3s)
		if err == nil || !strings.Contains(err.Error(), want) || got.URL != "" {
			t.Errorf("%q: %q, error %v, want one that says %q", in, got.URL, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the error holds the password", in)
		}
	}
	if _, err := cluster.ParseJoinURL("x", cluster.RKE2); err == nil || !strings.Contains(err.Error(), ":9345") {
		t.Errorf("error %v, want RKE2's port in it", err)
	}
}
