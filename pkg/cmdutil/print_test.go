package cmdutil_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// tokens returns the printed form of a token of each kind.
func tokens() *v1alpha1.BootstrapTokenList {
	list, now := &v1alpha1.BootstrapTokenList{}, time.Now()
	for _, t := range []bootstrap.Token{
		{Token: token.Token{ID: "active"}, Expires: now.Add(2 * time.Hour), Description: "rack 7", Labels: map[string]string{"rack": "7"}, Created: now.Add(-48 * time.Hour)},
		{Token: token.Token{ID: "expire"}, Expires: now.Add(-time.Hour), Groups: []string{"system:bootstrappers:a", "b\x1b"}},
		{Token: token.Token{ID: "foreve"}, Description: "a\x1b[31m\nb\u009bc\ufeff"},
		{Token: token.Token{ID: "badend"}, Problem: "expiration is not in RFC 3339"},
	} {
		if t.SecretName, t.Secret = "bootstrap-token-"+t.ID, secret; t.Usages == nil {
			t.Usages = []string{"authentication"}
		}
		list.Items = append(list.Items, v1alpha1.NewBootstrapToken(&t, now))
	}
	return list
}

// show prints an object in a format.
func show(t *testing.T, flags *cmdutil.PrintFlags, format string, obj runtime.Object) string {
	t.Helper()
	*flags.OutputFormat = format
	printer, err := flags.ToPrinter()
	if err != nil {
		t.Fatal(err)
	}
	streams, out, _ := newStreams("")
	if err := streams.Print(t.Context(), printer, obj); err != nil {
		t.Error(err)
	}
	return out.String()
}

func TestTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at 2000-01-01
		const want = `
TOKEN    TTL         EXPIRES                STATUS                                   DESCRIPTION
active   2h          2000-01-01T02:00:00Z   Active                                   rack 7
expire   <expired>   1999-12-31T23:00:00Z   Expired                                  <none>
foreve   <forever>   <never>                Active                                   a@[31m@b@c@
badend   <invalid>   <invalid>              Invalid: expiration is not in RFC 3339   <none>
`
		flags := cmdutil.NewPrintFlags()
		if got := strings.ReplaceAll(show(t, flags, "", tokens()), "\ufffd", "@"); got != want[1:] {
			t.Errorf("got\n%s", got)
		}
		flags.Table.ShowLabels, flags.Table.NoHeaders = true, true
		got := show(t, flags, "wide", tokens())
		has(t, got, "   authentication   <none>                        2d          rack=7\n", "   system:bootstrappers:a,b\ufffd     <unknown>   <none>\n")
		if strings.Contains(got, "TOKEN") || show(t, flags, "text", &v1alpha1.BootstrapTokenList{}) != "" {
			t.Errorf("got\n%s", got)
		}
	})
}
