package cmdutil_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

func TestTheFlagGoesBeforeK3SURL(t *testing.T) {
	const one, two = "https://one.example.com:6443", "https://two.example.com:6443"
	for _, test := range []struct{ flags, env, want string }{
		{"", "", "[]"},
		{one, two, "[" + one + "]"},
		{"", " " + two + "/\r\n", "[" + two + "]"},
		{one + " " + two + " " + one + "/", "<server>", "[" + one + " " + two + "]"},
		{"one:6443", two, "--url: the server URL has no scheme"},
		{"", "https://<server>:6443", "K3S_URL: the server URL has a placeholder that is not filled in"},
	} {
		t.Setenv("K3S_URL", test.env)
		urls, err := cmdutil.GivenURLs("--url", strings.Fields(test.flags))
		if got := fmt.Sprint(urls); err == nil && got != test.want || err != nil && err.Error() != test.want {
			t.Errorf("%q and %q: got %s, %v", test.flags, test.env, got, err)
		}
	}
}
