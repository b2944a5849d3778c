package list_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/list"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const secret = "0123456789abcdef"

// store has tokens and a watch, and records how they are asked for.
type store struct {
	items []*bootstrap.Token
	watch *watch.FakeWatcher
	asked string
}

func (s *store) List(_ context.Context, selector string) (bootstrap.List, error) {
	s.asked += selector
	return bootstrap.List{Items: s.items, ResourceVersion: "7"}, nil
}

func (s *store) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	s.asked += ", " + options.LabelSelector + " since " + options.ResourceVersion
	return s.watch, nil
}

func newToken(id string, life time.Duration) *bootstrap.Token {
	t := &bootstrap.Token{Token: token.Token{ID: id, Secret: secret}, Usages: []string{"authentication"}, Description: "rack 7", SecretName: "bootstrap-token-" + id}
	if life != 0 {
		t.Expires = time.Now().Add(life)
	}
	return t
}

func run(ctx context.Context, t *testing.T, s *store, format string, o *list.Options) (string, error) {
	t.Helper()
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	o.Streams, o.Print, o.Selector = cmdutil.Streams{IOStreams: streams}, cmdutil.NewPrintFlags(), "rack=7"
	*o.Print.OutputFormat = format
	printer, err := o.Print.ToPrinter()
	if err != nil {
		t.Fatal(err)
	}
	err = o.Run(ctx, s, printer)
	if strings.Contains(out.String()+errOut.String(), secret) {
		t.Error("the list shows a secret")
	}
	return out.String(), err
}

func TestAWatchHasARowForEachChangeUntilAnInterrupt(t *testing.T) {
	for format, want := range map[string]string{
		"": `TOKEN    TTL         EXPIRES                STATUS    DESCRIPTION
gone00   <expired>   1999-12-31T23:00:00Z   Expired   rack 7
aaaaa1   <forever>   <never>                Active    rack 7
aaaaa2   <forever>   <never>                Active    rack 7
bbbbbb   <forever>   <never>                Active    rack 7
bbbbbb   <invalid>   <invalid>              Invalid: token-secret is not 16 of a-z and 0-9   rack 7
bbbbbb   <forever>   <never>                Deleted                                          rack 7
`,
		"jsonpath={.id}/{.status} ": "gone00/Expired aaaaa1/Active aaaaa2/Active bbbbbb/Active bbbbbb/Invalid bbbbbb/Deleted ",
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			s := &store{items: []*bootstrap.Token{newToken("aaaaa2", 0), newToken("aaaaa1", 0), newToken("gone00", -time.Hour)}, watch: watch.NewFake()}
			go func() {
				secret := bootstrap.EncodeSecret(newToken("bbbbbb", 0))
				secret.ResourceVersion = "8"
				s.watch.Add(secret.DeepCopy())
				secret.Data["token-secret"] = []byte("short")
				s.watch.Modify(secret.DeepCopy())
				s.watch.Action(watch.Bookmark, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"}})
				s.watch.Delete(secret)
				synctest.Wait()
				interrupt()
			}()
			got, err := run(ctx, t, s, format, &list.Options{Watch: true})
			if got != want || !errors.Is(err, context.Canceled) || s.asked != "rack=7, rack=7 since 7" {
				t.Errorf("got %v, asked for %s\n%s", err, s.asked, got)
			}
		})
	}
}

func TestAWatchEndsWithTheErrorOfTheServer(t *testing.T) {
	t.Parallel()
	s := &store{watch: watch.NewFake()}
	go s.watch.Error(&apierrors.NewResourceExpired("too old").ErrStatus)
	if _, err := run(t.Context(), t, s, "", &list.Options{Watch: true, Expired: true}); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v", err)
	}
}
