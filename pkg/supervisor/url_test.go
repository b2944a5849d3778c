package supervisor

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want, says string }{
		{in: "https://s1:6443", want: "https://s1:6443"},
		{in: "https://s1:6443/", want: "https://s1:6443"},
		{in: "https://s1:6443///", want: "https://s1:6443"},
		{in: "HTTPS://S1.Example:6443", want: "https://s1.example:6443"},
		{in: "https://s1", want: "https://s1:443"},
		{in: "https://10.0.0.1:09345", want: "https://10.0.0.1:9345"},
		{in: "https://[::1]:6443", want: "https://[::1]:6443"},
		{in: "https://[2001:db8::1]", want: "https://[2001:db8::1]:443"},

		{in: "", says: "is empty"},
		{in: "http://s1:6443", says: "answers to https://"},
		{in: "HTTP://s1:6443", says: "answers to https://"},
		{in: "s1:6443", says: "put https:// in front"},
		{in: "s1", says: "put https:// in front"},
		{in: "10.0.0.1:6443", says: "put https:// in front"},
		{in: "ftp://s1:6443", says: "unknown scheme"},
		{in: "://s1:6443", says: "unknown scheme"},
		{in: "https://", says: "no valid host"},
		{in: "https://:6443", says: "no valid host"},
		{in: "https://s1:0", says: "no valid port"},
		{in: "https://s1:65536", says: "no valid port"},
		{in: "https://s1:http", says: "cannot be parsed"},
		{in: "https://::1:6443", says: "in brackets"},
		{in: "https://[fe80::1%25eth0]:6443", says: "without a zone"},
		{in: "https://server:hunter2@s1:6443", says: "user name"},
		{in: "https://s1:6443/v1-k3s", says: "has a path"},
		{in: "https://rancher/k8s/clusters/c-1", says: "Rancher"},
		{in: "https://s1:6443?a=b", says: "query"},
		{in: "https://s1:6443?", says: "query"},
		{in: "https://s1:6443#x", says: "fragment"},
		{in: "https://bücher.example:6443", says: "xn--"},
		{in: "https://s1\x1b:6443", says: "cannot be parsed"},
		{in: "https://s 1:6443", says: "cannot be parsed"},
		{in: "https://s1\n:6443", says: "cannot be parsed"},
		{in: "https://s1*:6443", says: "no valid host"},
		{in: "K10" + liveHash + "::server:" + strong, says: "is a token"},
	} {
		got, err := ParseURL(test.in)
		switch {
		case test.want != "":
			if err != nil || got.String() != test.want {
				t.Errorf("%q: got %s, %v, want %s", test.in, got, err, test.want)
			}
		case err == nil || !strings.Contains(err.Error(), test.says):
			t.Errorf("%q: got %s, %v, want an error that says %q", test.in, got, err, test.says)
		case strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), strong):
			t.Errorf("%q: the error echoes: %v", test.in, err)
		case got != URL{}:
			t.Errorf("%q: refused, and yet returned", test.in)
		}
	}
}

func TestNoURLPrintsAsNothing(t *testing.T) {
	t.Parallel()
	if got := (URL{}).String(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestDistributionsHaveTheirPorts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		distribution     Distribution
		host, want, path string
	}{
		{K3s, "s1", "https://s1:6443", "/v1-k3s/readyz"},
		{RKE2, "::1", "https://[::1]:9345", "/v1-rke2/readyz"},
	} {
		u, err := test.distribution.URL(test.host)
		if err != nil || u.String() != test.want || u.Host() != test.host || u.Port() != test.distribution.Port() {
			t.Errorf("got %s, %v, want %s", u, err, test.want)
		}
		if got := test.distribution.path("readyz"); got != test.path {
			t.Errorf("got %s, want %s", got, test.path)
		}
	}
	if _, err := K3s.URL("no host"); err == nil {
		t.Error("took a host that is none")
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"https://s1:6443", "https://[::1]:1", "http://x", "https://a@b", "https://a%1bb", "K10x", "https://[fe80::1%25x]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			if printable(err.Error()) != err.Error() || u != (URL{}) {
				t.Errorf("got %v and %s", err, u)
			}
			return
		}
		if again, err := ParseURL(u.String()); err != nil || again != u {
			t.Errorf("%s reads back as %s, %v", u, again, err)
		}
		parsed, err := url.Parse(u.String())
		if err != nil || parsed.Scheme != "https" || parsed.Host != u.HostPort() || parsed.User != nil || parsed.Path != "" {
			t.Errorf("%s is no plain URL: %v", u, err)
		}
		if text := u.String(); printable(text) != text {
			t.Errorf("%q does not belong on a terminal", text)
		}
	})
}
