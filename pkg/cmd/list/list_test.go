package list_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/list"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const secret = "0123456789abcdef"

func newToken(id string) *bootstrap.Token {
	return &bootstrap.Token{Token: token.Token{ID: id, Secret: secret}, Usages: []string{"authentication"}, SecretName: "bootstrap-token-" + id}
}

// store has tokens and a watch.
type store struct{ *watch.FakeWatcher }

func (store) List(context.Context, string) (bootstrap.List, error) {
	return bootstrap.List{Items: []*bootstrap.Token{newToken("aaaaa2"), newToken("aaaaa1")}, ResourceVersion: "7"}, nil
}

func (s store) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if options.LabelSelector != "rack=7" || options.ResourceVersion != "7" {
		return nil, errors.New("another watch")
	}
	return s, nil
}

// change has a token that comes, becomes malformed and goes.
func (s store) change() {
	added := bootstrap.EncodeSecret(newToken("bbbbbb"))
	added.ResourceVersion = "8"
	s.Add(added.DeepCopy())
	added.Data["token-secret"] = []byte("short")
	s.Modify(added.DeepCopy())
	s.Action(watch.Bookmark, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"}})
	s.Delete(added)
}

func TestAWatchHasARowForEachChangeUntilAnInterrupt(t *testing.T) {
	for format, want := range map[string]string{
		"": `TOKEN    TTL         EXPIRES   STATUS   DESCRIPTION
aaaaa1   <forever>   <never>   Active   <none>
aaaaa2   <forever>   <never>   Active   <none>
bbbbbb   <forever>   <never>   Active   <none>
bbbbbb   <invalid>   <invalid>   Invalid: token-secret is not 16 of a-z and 0-9   <none>
bbbbbb   <forever>   <never>     Deleted                                          <none>
`,
		"jsonpath={.id}/{.status} ": "aaaaa1/Active aaaaa2/Active bbbbbb/Active bbbbbb/Invalid bbbbbb/Deleted ",
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			streams, _, out, _ := genericiooptions.NewTestIOStreams()
			o := &list.Options{Streams: cmdutil.Streams{IOStreams: streams}, Print: cmdutil.NewPrintFlags(), Selector: "rack=7", Watch: true}
			*o.Print.OutputFormat = format
			printer, err := o.Print.ToPrinter()
			if err != nil {
				t.Fatal(err)
			}
			s := store{watch.NewFake()}
			go func() {
				s.change()
				synctest.Wait()
				interrupt()
			}()
			err = o.Run(ctx, s, printer)
			if out.String() != want || !errors.Is(err, context.Canceled) || strings.Contains(out.String(), secret) {
				t.Errorf("got %v and\n%s", err, out)
			}
		})
	}
}
