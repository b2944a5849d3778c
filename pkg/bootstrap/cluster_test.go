package bootstrap_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const secretPart = "0123456789abcdef"

var (
	now             = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	secretsVersion  = corev1.SchemeGroupVersion.WithResource("secrets")
	secretsResource = secretsVersion.GroupResource()
)

// newToken returns a token with the defaults of "k3s token create".
func newToken(id string) *bootstrap.Token {
	t := &bootstrap.Token{
		Expires: now.Add(time.Hour),
		Usages:  []string{"authentication", "signing"},
		Groups:  []string{bootstrap.GroupK3s},
	}
	if id != "" {
		t.Token = token.Token{ID: id, Secret: secretPart}
	}
	return t
}

// cluster is a fake clientset that also sets UID and resource version, and checks
// preconditions.
type cluster struct {
	*fake.Clientset
	*bootstrap.Store
	version atomic.Int64
}

func newCluster(t *testing.T, ids ...string) *cluster {
	t.Helper()
	c := &cluster{Clientset: fake.NewSimpleClientset()}
	c.Store = bootstrap.NewStore(contextSecrets{c.CoreV1().Secrets(bootstrap.Namespace)})
	c.PrependReactor("*", "secrets", c.serve)
	for _, id := range ids {
		_ = c.put(bootstrap.EncodeSecret(newToken(id)))
	}
	return c
}

// contextSecrets fails to delete if its context is cancelled, as a real client does.
type contextSecrets struct{ bootstrap.Secrets }

func (s contextSecrets) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	return cmp.Or(ctx.Err(), s.Secrets.Delete(ctx, name, opts))
}

// put stores a new Secret.
func (c *cluster) put(secret *corev1.Secret) error {
	secret.ResourceVersion = fmt.Sprint(c.version.Add(1))
	secret.UID = types.UID("uid-" + secret.ResourceVersion)
	secret.CreationTimestamp = metav1.NewTime(now)
	return c.Tracker().Create(secretsVersion, secret, secret.Namespace)
}

// serve does what the tracker of the clientset does not.
func (c *cluster) serve(action clienttesting.Action) (bool, runtime.Object, error) {
	switch action := action.(type) {
	case clienttesting.CreateActionImpl:
		secret := action.Object.(*corev1.Secret).DeepCopy()
		return true, secret, c.put(secret)
	case clienttesting.DeleteActionImpl:
		stored, p := c.stored(action.Name), action.DeleteOptions.Preconditions
		if stored != nil && (*p.UID != stored.UID || p.ResourceVersion != nil && *p.ResourceVersion != stored.ResourceVersion) {
			return true, nil, apierrors.NewConflict(secretsResource, action.Name, errors.New("precondition"))
		}
	}
	return false, nil, nil
}

// stored returns a Secret of the cluster, or nil.
func (c *cluster) stored(name string) *corev1.Secret {
	object, err := c.Tracker().Get(secretsVersion, bootstrap.Namespace, name)
	if err != nil {
		return nil
	}
	return object.(*corev1.Secret)
}

// answer has the cluster create a token if done is true, and then answer
// with the error. Later calls come first.
func (c *cluster) answer(verb string, done bool, err error) {
	c.PrependReactor(verb, "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if done {
			_, _, _ = c.serve(action)
		}
		return true, nil, err
	})
}

func (c *cluster) wantTokens(t *testing.T, ids ...string) {
	t.Helper()
	list, err := c.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tok := range list.Items {
		got = append(got, tok.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, ids) {
		t.Errorf("the cluster has the tokens %v, want %v", got, ids)
	}
}

// get returns the token of an id.
func (c *cluster) get(t *testing.T, s string) *bootstrap.Token {
	t.Helper()
	tok, err := c.Get(t.Context(), ref(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func ref(t *testing.T, s string) bootstrap.Ref {
	t.Helper()
	ref, err := bootstrap.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func isUncertain(err error) bool {
	_, ok := errors.AsType[*bootstrap.UncertainError](err)
	return ok
}
