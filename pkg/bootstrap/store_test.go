package bootstrap_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

var (
	_ bootstrap.Secrets        = corev1client.SecretInterface(nil)
	_ cache.WatcherWithContext = (*bootstrap.Store)(nil)

	errLost      = io.ErrUnexpectedEOF
	errForbidden = apierrors.NewForbidden(corev1.Resource("secrets"), "bootstrap-token-abcdef", errors.New("no"))
	errConflict  = apierrors.NewConflict(corev1.Resource("secrets"), "bootstrap-token-abcdef", errors.New("uid"))
	errExists    = apierrors.NewAlreadyExists(corev1.Resource("secrets"), "bootstrap-token-abcdef")
)

// cluster is client-go's fake as a cluster of Secrets.
type cluster struct {
	*fake.Clientset
	*bootstrap.Store
}

func newCluster(secrets ...*corev1.Secret) cluster {
	clients := fake.NewSimpleClientset()
	c := cluster{clients, bootstrap.NewStore(contextSecrets{clients.CoreV1().Secrets(bootstrap.Namespace)})}
	for _, secret := range secrets {
		c.add(secret)
	}
	return c
}

// contextSecrets fails if its context is over, as a real client does.
type contextSecrets struct{ bootstrap.Secrets }

func (s contextSecrets) Get(ctx context.Context, name string, opts metav1.GetOptions) (*corev1.Secret, error) {
	secret, err := s.Secrets.Get(ctx, name, opts)
	return secret, cmp.Or(ctx.Err(), err)
}

func (s contextSecrets) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	return cmp.Or(ctx.Err(), s.Secrets.Delete(ctx, name, opts))
}

func (c cluster) add(secret *corev1.Secret) { _ = c.Tracker().Add(secret) }

// fail has so many requests fail, and returns a pointer to the number of all.
func (c cluster) fail(verb string, failures int, err error) *int {
	requests := new(int)
	c.PrependReactor(verb, "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		*requests++
		return *requests <= failures, nil, err
	})
	return requests
}

// deleted returns the preconditions of the requests to delete.
func (c cluster) deleted() []metav1.Preconditions {
	var all []metav1.Preconditions
	for _, action := range c.Actions() {
		if action, ok := action.(clienttesting.DeleteActionImpl); ok {
			all = append(all, *action.DeleteOptions.Preconditions)
		}
	}
	return all
}

func isUncertain(err error) bool {
	_, ok := errors.AsType[*bootstrap.UncertainError](err)
	return ok
}

// changes are the methods of a Store that change a token, by their verb.
var changes = map[string]func(context.Context, *bootstrap.Store) error{
	"create": func(ctx context.Context, s *bootstrap.Store) error { return s.Create(ctx, newToken()) },
	"delete": func(ctx context.Context, s *bootstrap.Store) error {
		return s.Delete(ctx, bootstrap.FromSecret(stored("", "")))
	},
	"patch": func(ctx context.Context, s *bootstrap.Store) error {
		return s.Extend(ctx, bootstrap.FromSecret(stored("", "")), now)
	},
}

func TestListAndWatchSelectBootstrapTokens(t *testing.T) {
	c := newCluster()
	if _, _, err := c.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WatchWithContext(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	listed := c.Actions()[0].(clienttesting.ListActionImpl).ListOptions.FieldSelector
	watched := c.Actions()[1].(clienttesting.WatchActionImpl).ListOptions.FieldSelector
	if want := "type=bootstrap.kubernetes.io/token"; listed != want || watched != want {
		t.Errorf("field selectors %q and %q, want %q", listed, watched, want)
	}
}

func TestAChangeWhoseAnswerIsLostIsUncertain(t *testing.T) {
	for err, want := range map[error]bool{
		errLost: true,
		apierrors.NewInternalError(errors.New("x")):                                       true,
		apierrors.NewTimeoutError("x", 0):                                                 true,
		&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusRequestTimeout}}: true,
		&net.OpError{Op: "read", Err: syscall.ECONNRESET}:                                 true,
		errForbidden:                         false,
		errExists:                            false,
		apierrors.NewTooManyRequests("x", 0): false,
	} {
		for verb, change := range changes {
			c := newCluster()
			c.fail(verb, 1, err)
			if got := change(t.Context(), c.Store); !errors.Is(got, err) || isUncertain(got) != want {
				t.Errorf("%s: error %T %v, want that it is uncertain: %v", verb, got, got, want)
			}
		}
	}
	// client-go repeats a request after a server error with Retry-After. If the first
	// was carried out, the second is answered with AlreadyExists.
	c := newCluster()
	c.fail("create", 1, errExists)
	if err := c.Create(t.Context(), &bootstrap.Token{Usages: []string{"signing"}}); !isUncertain(err) {
		t.Errorf("error %T %v, want an uncertain one: the id was generated", err, err)
	}
}

func TestAChangeThatIsNotSentIsCertain(t *testing.T) {
	untrusted, closed := httptest.NewTLSServer(nil), httptest.NewServer(nil)
	defer untrusted.Close()
	closed.Close()
	for _, url := range []string{closed.URL, untrusted.URL} {
		client, err := corev1client.NewForConfig(&rest.Config{Host: url})
		if err != nil {
			t.Fatal(err)
		}
		if err := changes["create"](t.Context(), bootstrap.NewStore(client.Secrets("x"))); err == nil || isUncertain(err) {
			t.Errorf("error %T %v, want a certain one: nothing was sent", err, err)
		}
	}
	c, interrupt := newCluster(), errors.New("interrupt")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt)
	for verb, change := range changes {
		if err := change(ctx, c.Store); !errors.Is(err, interrupt) || isUncertain(err) || len(c.Actions()) > 0 {
			t.Errorf("%s: error %T %v, requests %v", verb, err, err, c.Actions())
		}
	}
}

func TestUndoRemovesTheTokenWhoseAnswerWasLostAndNoOther(t *testing.T) {
	opaque := stored("", "")
	opaque.Type = "Opaque"
	for name, test := range map[string]struct {
		secret  *corev1.Secret
		comes   time.Duration
		removed bool
	}{
		"at once":      {stored("", ""), 0, true},
		"late":         {stored("", ""), 2 * time.Second, true},
		"too late":     {stored("", ""), time.Hour, false},
		"other data":   {stored("description", "of somebody else"), 0, false},
		"other secret": {stored("token-secret", "ffffffffffffffff"), 0, false},
		"other type":   {opaque, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, start := newCluster(), time.Now()
			time.AfterFunc(test.comes, func() { c.add(test.secret) })
			interrupted, cancel := context.WithCancel(t.Context())
			cancel()
			err := c.Undo(interrupted, newToken())
			if err != nil || (len(c.deleted()) > 0) != test.removed || time.Since(start) > 3*time.Second {
				t.Errorf("%s: deleted %v after %v (%v)", name, c.deleted(), time.Since(start), err)
			}
		})
	}
}

func TestUndoRepeatsWhatIsUncertain(t *testing.T) {
	for name, test := range map[string]struct {
		err                error
		failures, attempts int
		want               error
	}{
		"two lost requests":        {errLost, 2, 3, nil},
		"no answer at all":         {errLost, 1000, 12, errLost},
		"forbidden":                {errForbidden, 1000, 1, errForbidden},
		"another one has the name": {errConflict, 1000, 1, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(stored("", ""))
			attempts := c.fail("delete", test.failures, test.err)
			err := c.Undo(t.Context(), bootstrap.FromSecret(stored("", "")))
			if !errors.Is(err, test.want) || *attempts < test.attempts || *attempts > test.attempts+1 {
				t.Errorf("%s: error %v after %d attempts, want %v after %d", name, err, *attempts, test.want, test.attempts)
			}
		})
	}
}

func TestALookThatIsCutShortSaysNothing(t *testing.T) {
	for looks, want := range map[int]error{0: context.DeadlineExceeded, 1: nil} {
		synctest.Test(t, func(t *testing.T) {
			c, looked := newCluster(), 0
			c.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
				if looked++; looked > looks {
					time.Sleep(time.Hour)
				}
				return false, nil, nil
			})
			if err := c.Undo(t.Context(), newToken()); !errors.Is(err, want) {
				t.Errorf("after %d looks: %v, want %v", looks, err, want)
			}
		})
	}
}

// The API server compares the preconditions with its Secret.
func TestAnotherTokenOfTheSameNameIsSpared(t *testing.T) {
	secret := stored("", "")
	c, tok := newCluster(secret), bootstrap.FromSecret(secret)
	if err := errors.Join(c.Delete(t.Context(), tok), c.Undo(t.Context(), tok)); err != nil {
		t.Error(err)
	}
	want := []metav1.Preconditions{{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}, {UID: &secret.UID}}
	if got := c.deleted(); !reflect.DeepEqual(got, want) {
		t.Errorf("preconditions %v, want %v", got, want)
	}
}

func TestExtendPatchesTheExpirationOfThisTokenAlone(t *testing.T) {
	c, tok := newCluster(stored("", "")), bootstrap.FromSecret(stored("", ""))
	if err := c.WithDryRun().Extend(t.Context(), tok, time.Time{}); err != nil || !tok.Expires.IsZero() {
		t.Errorf("token %v, error %v", tok, err)
	}
	patch := c.Actions()[0].(clienttesting.PatchActionImpl)
	want := `{"data":{"expiration":null},"metadata":{"uid":"uid"}}`
	if string(patch.Patch) != want || patch.PatchType != "application/merge-patch+json" || patch.PatchOptions.DryRun == nil {
		t.Errorf("patch %s, want %s", patch.Patch, want)
	}
}
