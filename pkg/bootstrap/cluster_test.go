package bootstrap_test

import (
	"cmp"
	"context"
	"encoding/json"
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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const secretPart = "0123456789abcdef"

var (
	now             = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	secretsResource = corev1.SchemeGroupVersion.WithResource("secrets")
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

// cluster is a fake clientset that also does what the Store relies on: it sets
// UID and resource version, and checks preconditions.
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
		c.put(bootstrap.EncodeSecret(newToken(id)))
	}
	return c
}

// contextSecrets fails to delete if its context is cancelled, as a real client does.
type contextSecrets struct{ bootstrap.Secrets }

func (s contextSecrets) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	return cmp.Or(ctx.Err(), s.Secrets.Delete(ctx, name, opts))
}

// put stores a new Secret.
func (c *cluster) put(secret *corev1.Secret) {
	secret.ResourceVersion = fmt.Sprint(c.version.Add(1))
	secret.UID = types.UID("uid-" + secret.ResourceVersion)
	secret.CreationTimestamp = metav1.NewTime(now)
	if err := c.Tracker().Create(secretsResource, secret, secret.Namespace); err != nil {
		panic(err)
	}
}

// replace stores another token with the id of one that is there.
func (c *cluster) replace(id string) {
	another := newToken(id)
	another.Secret = "ffffffffffffffff"
	secret := bootstrap.EncodeSecret(another)
	_ = c.Tracker().Delete(secretsResource, secret.Namespace, secret.Name)
	c.put(secret)
}

// serve does the work of the API server.
func (c *cluster) serve(action clienttesting.Action) (bool, runtime.Object, error) {
	switch action := action.(type) {
	case clienttesting.CreateActionImpl:
		secret := action.Object.(*corev1.Secret).DeepCopy()
		if c.stored(secret.Name) != nil {
			return true, nil, apierrors.NewAlreadyExists(secretsResource.GroupResource(), secret.Name)
		}
		if action.CreateOptions.DryRun == nil {
			c.put(secret)
		}
		return true, secret, nil
	case clienttesting.DeleteActionImpl:
		stored, p := c.stored(action.Name), action.DeleteOptions.Preconditions
		if stored != nil && p != nil && (p.UID != nil && *p.UID != stored.UID || p.ResourceVersion != nil && *p.ResourceVersion != stored.ResourceVersion) {
			return true, nil, apierrors.NewConflict(secretsResource.GroupResource(), action.Name, errors.New("precondition"))
		}
		return stored != nil && action.DeleteOptions.DryRun != nil, nil, nil
	case clienttesting.PatchActionImpl:
		var patch metav1.PartialObjectMetadata
		if err := json.Unmarshal(action.Patch, &patch); err != nil {
			return true, nil, err
		}
		if stored := c.stored(action.Name); stored != nil && patch.UID != stored.UID {
			return true, nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, action.Name, nil)
		}
		_, patched, err := clienttesting.ObjectReaction(c.Tracker())(action)
		if err == nil {
			patched.(*corev1.Secret).ResourceVersion = fmt.Sprint(c.version.Add(1))
			err = c.Tracker().Update(secretsResource, patched, bootstrap.Namespace)
		}
		return true, patched, err
	}
	return false, nil, nil
}

// stored returns a Secret of the cluster, or nil.
func (c *cluster) stored(name string) *corev1.Secret {
	object, err := c.Tracker().Get(secretsResource, bootstrap.Namespace, name)
	if err != nil {
		return nil
	}
	return object.(*corev1.Secret)
}

// answer has the cluster do the work of a verb if done is true, and then answer
// with the error. Later calls come first.
func (c *cluster) answer(verb string, done bool, err error) {
	c.PrependReactor(verb, "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if done {
			if handled, _, _ := c.serve(action); !handled {
				_, _, _ = clienttesting.ObjectReaction(c.Tracker())(action)
			}
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

func (c *cluster) wantVerbs(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, action := range c.Actions() {
		got = append(got, action.GetVerb())
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests %v, want %v", got, want)
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
