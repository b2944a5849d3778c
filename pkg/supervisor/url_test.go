package supervisor_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want, says string }{
		{in: "https://s1:6443", want: "https://s1:6443"},
		{in: "https://s1:6443///", want: "https://s1:6443"},
		{in: "HTTPS://S1.Example:6443", want: "https://s1.example:6443"},
		{in: "https://s1", want: "https://s1:443"},
		{in: "https://k3s_server", want: "https://k3s_server:443"},
		{in: "https://10.0.0.1:09345", want: "https://10.0.0.1:9345"},
		{in: "https://[2001:db8::1]", want: "https://[2001:db8::1]:443"},

		{in: "", says: "no scheme"},
		{in: "http://s1:6443", says: "does not start with https://"},
		{in: "ftp://s1:6443", says: "does not start with https://"},
		{in: "s1:6443", says: "has no scheme"},
		{in: "10.0.0.1:6443", says: "has no scheme"},
		{in: "://s1:6443", says: "malformed"},
		{in: "https://", says: "malformed"},
		{in: "https://s1:0", says: "malformed"},
		{in: "https://s1:65536", says: "malformed"},
		{in: "https://s1:http", says: "malformed"},
		{in: "https://::1:6443", says: "malformed"},
		{in: "https://[fe80::1%25eth0]:6443", says: "malformed"},
		{in: "https://server:hunter2@s1:6443", says: "malformed"},
		{in: "https://rancher/k8s/clusters/c-1", says: "has a path"},
		{in: "https://s1:6443?", says: "malformed"},
		{in: "https://s1:6443#x", says: "malformed"},
		{in: "https://bücher.example:6443", says: "malformed"},
		{in: "https://s1\x1b:6443", says: "malformed"},
		{in: "https://s 1:6443", says: "malformed"},
		{in: "https://s1';reboot;':6443", says: "malformed"}, // it is pasted into a shell
		{in: "K10" + otherHash + "::server:" + serverPassword, says: "no scheme"},
	} {
		got, err := supervisor.ParseURL(test.in)
		if test.want != "" {
			if err != nil || got.String() != test.want {
				t.Errorf("%q: got %s, %v, want %s", test.in, got, err, test.want)
			}
			continue
		}
		checkError(t, err)
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2") || got.String() != "" {
			t.Errorf("%q: got %s, %v, want an error that says %q", test.in, got, err, test.says)
		}
	}
}

func TestDistributionsHaveTheirPorts(t *testing.T) {
	t.Parallel()
	for d, want := range map[supervisor.Distribution]string{supervisor.K3s: "6443", supervisor.RKE2: "9345", supervisor.Other: "6443"} {
		if got := d.Port(); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"https://s1:6443", "https://[::1]:1", "http://x", "https://a@b", "https://a%1bb", "K10x", "https://[fe80::1%25x]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := supervisor.ParseURL(s)
		if err != nil {
			checkError(t, err)
			return
		}
		if again, err := supervisor.ParseURL(u.String()); err != nil || again != u {
			t.Errorf("%s reads back as %s, %v", u, again, err)
		}
		parsed, err := url.Parse(u.String())
		if err != nil || parsed.Hostname() != u.Host() || parsed.Port() != u.Port() || strings.ContainsAny(u.String(), " '\"$`;&|<>\\") {
			t.Errorf("%q is no plain URL: %v", u, err)
		}
	})
}
