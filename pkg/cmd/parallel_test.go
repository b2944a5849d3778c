package cmd_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

func TestParallelBoundsTheRequestsUnderWay(t *testing.T) {
	for name, args := range map[string][]string{
		"create": {"create", "--count", "12"},
		"delete": {"delete", "--all", "--yes"},
		"extend": {"extend", "--ttl", "1h", "active", "soooon", "foreve", "expire", "others", "morees"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			for _, id := range []string{"active", "soooon", "foreve", "expire", "others", "morees"} {
				c.put(id, nil)
			}
			c.Handle(func(_ http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
				time.Sleep(5 * time.Millisecond)
				return false
			})
			if got := c.run(t, append(args, "--parallel", "3")...); got.code != 0 {
				t.Fatal(got.stderr)
			}
			if most := c.MostAtOnce(); most != 3 {
				t.Errorf("%d requests were under way at once, want 3", most)
			}
		})
	}
}

func TestParallelHasBounds(t *testing.T) {
	for _, value := range []string{"0", "-1", "257", "many", "", "9999999999999999999"} {
		got := newCluster(t).run(t, "create", "--parallel", value)
		if got.code != 1 || !strings.Contains(got.stderr, "it takes a number from 1 to 256") {
			t.Errorf("--parallel %q: exit code %d, %s", value, got.code, got.stderr)
		}
	}
}
