package supervisor_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://s1:6443":            "https://s1:6443",
		" https://s1:6443///\r\n":    "https://s1:6443",
		"HTTPS://S1.Example:6443":    "https://s1.example:6443",
		"https://s1":                 "https://s1:443",
		"https://s1.example.:6443":   "https://s1.example.:6443",
		"https://k3s_server":         "https://k3s_server:443",
		"https://k3s_:06443":         "https://k3s_:6443",
		"https://x:6443":             "https://x:6443",
		"https://web.1":              "https://web.1:443",
		"https://10.x":               "https://10.x:443",
		"https://x1.a.b.xn--4ca:1":   "https://x1.a.b.xn--4ca:1",
		"https://1.your-server.de:1": "https://1.your-server.de:1",
		"https://[2001:DB8::1]":      "https://[2001:db8::1]:443",
		"https://[::1]:6443":         "https://[::1]:6443",
	} {
		got, err := supervisor.ParseURL(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %s, %v, want %s", in, got, err, want)
		}
	}
}

// TestWhatANodeCannotDialIsNoURL has kinds of mistakes, each in several shapes.
func TestWhatANodeCannotDialIsNoURL(t *testing.T) {
	t.Parallel()
	for says, inputs := range map[string][]string{
		"is not filled in": {
			"https://<server>:6443", "<url>", "https://{{ .Host }}:6443", "https://{server}", "$K3S_URL", "https://${HOST}:6443", "https://$HOST:6443",
			"https://%HOST%:6443", "https://[server]:6443", "https://SERVER_IP:6443", "https://__host__",
			"https://xxx:6443",
		},
		"no scheme":                   {"", "s1:6443", "10.0.0.1:6443", "https:s1", `https:\\s1`, "K10" + otherHash + "::server:" + serverPassword},
		"does not start with https:/": {"http://s1:6443", "ftp://s1:6443", "://s1:6443"},
		"has quotes":                  {`"https://s1:6443"`, "'https://s1'", "“https://s1”", "https://s1'x':6443", "https://s1`id`"},
		"has several addresses": {
			"https://s1:6443,https://s2:6443", "https://s1,s2:6443", "https://s1;s2", "https://s1:6443 https://s2:6443", "https://s1\ns2", "https://https://s1",
		},
		"more than host and port": {"https://server:hunter2@s1:6443", "https://hunter2@s1", "https://s1:6443?", "https://s1:6443/?a=b", "https://s1#x"},
		"has a path":              {"https://rancher/k8s/clusters/c-1", "https://s1:6443/v1-k3s", "https://s1:6443/%2f"},
		"no valid host and port": {
			"https://s1:", "https://s1:0", "https://s1:65536", "https://s1:http", "https://s1:-1", "https://[::1]:", "https://s1:6443x",
			"https://::1:6443", "https://2001:db8::1", "https://[::1", "https://s1:6443:6443", "https://", "https://:6443", "https://0.0.0.0:6443",
			"https://[::]:6443", "https://*:6443", "https://*.example.com", "https://224.0.0.1", "https://10.0.0.256", "https://10.0.0",
			"https://192.168.1.x:6443", "https://xxx.xxx.xxx.xxx:6443", "https://aaa.bbb.ccc.ddd:6443", "https://n.n.n.n", "https://1.2.3.Y:6443",
			"https://1", "https://10.0.0.1.", "https://" + strings.Repeat("a.", 128), "https://s1..s2", "https://" + strings.Repeat("a", 64), "https://-s1", "https://s1-:6443",
			"https://[10.0.0.1]:6443", "https://[fe80::1%25eth0]:6443", "https://[12345::1]", "https://bücher.example", "https://s1\x1b:6443",
			"https://s1&id", "https://(server)", "https://s1%20", // it is pasted into a shell
		},
	} {
		for _, in := range inputs {
			got, err := supervisor.ParseURL(in)
			checkError(t, err, "")
			if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") || got != (supervisor.URL{}) {
				t.Errorf("%q: got %s, %v, want an error that says %q", in, got, err, says)
			}
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
			checkError(t, err, "")
			return
		}
		if again, err := supervisor.ParseURL(u.String()); err != nil || again.String() != u.String() {
			t.Errorf("%s reads back as %s, %v", u, again, err)
		}
		parsed, err := url.Parse(u.String())
		if err != nil || parsed.Hostname() != u.Host() || parsed.Port() != u.Port() || strings.ContainsAny(u.String(), " '\"$`;&|<>\\") {
			t.Errorf("%q is no plain URL: %v", u, err)
		}
	})
}
