package bootstrap_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
	errForbidden = apierrors.NewForbidden(secretsResource, "bootstrap-token-abcdef", errors.New("no"))
)

// changes are the methods of a Store that change a token, by their verb.
var changes = map[string]func(context.Context, *bootstrap.Store) error{
	"create": func(ctx context.Context, s *bootstrap.Store) error { return s.Create(ctx, newToken("abcdef")) },
	"delete": func(ctx context.Context, s *bootstrap.Store) error {
		return s.Delete(ctx, bootstrap.FromSecret(stored("", "")))
	},
	"patch": func(ctx context.Context, s *bootstrap.Store) error {
		_, err := s.Extend(ctx, bootstrap.FromSecret(stored("", "")), now)
		return err
	},
}

func TestATokenIsReadAsItWasCreated(t *testing.T) {
	c := newCluster(t)
	tok := newToken("")
	tok.Description, tok.Labels = "rack 7", map[string]string{"rack": "7"}
	if err := c.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	if got := c.get(t, tok.Reveal()); !reflect.DeepEqual(got, tok) || got.UID == "" || !got.Created.Equal(now) {
		t.Errorf("token\n%#v\nwant\n%#v", got, tok)
	}
	tok.Groups = []string{"system:masters"}
	if err := c.Create(t.Context(), tok); err == nil || isUncertain(err) {
		t.Errorf("an invalid token was created: %v", err)
	}
}

func TestGetReturnsOnlyTheTokenOfTheReference(t *testing.T) {
	c := newCluster(t, "abcdef")
	opaque := bootstrap.EncodeSecret(newToken("opaque"))
	opaque.Type = "Opaque"
	_ = c.put(opaque)
	if got := c.get(t, "K10"+caHash+"::abcdef."+secretPart); got.ID != "abcdef" {
		t.Errorf("got %v", got)
	}
	for in, want := range map[string]string{
		"abcdef.ffffffffffffffff": bootstrap.ErrOtherSecret.Error(),
		"ghijkl":                  `secrets "bootstrap-token-ghijkl" not found`,
		"opaque":                  `secret "bootstrap-token-opaque" is of type "Opaque", not a bootstrap token`,
	} {
		if got, err := c.Get(t.Context(), ref(t, in)); err == nil || got != nil || err.Error() != want {
			t.Errorf("%v: token %v, error %v", ref(t, in), got, err)
		}
	}
}

func TestListAndWatchSelectBootstrapTokens(t *testing.T) {
	c := newCluster(t, "abcdef")
	list, err := c.List(t.Context(), "site=north")
	if err != nil || len(list.Items) > 0 {
		t.Errorf("list %v (%v), want only tokens with the label", list, err)
	}
	watcher, err := c.WatchWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	watcher.Stop()
	listed, watched := c.Actions()[0].(clienttesting.ListActionImpl).ListOptions, c.Actions()[1].(clienttesting.WatchActionImpl).ListOptions
	const selector = "type=bootstrap.kubernetes.io/token"
	if listed.FieldSelector != selector || watched.FieldSelector != selector || watched.ResourceVersion != "1" {
		t.Errorf("options %v and %v, want a field selector", listed, watched)
	}
}

// client-go repeats a request after a server error with Retry-After. If the first
// was carried out, the second is answered with AlreadyExists.
func TestAGeneratedIDThatExistsIsUncertain(t *testing.T) {
	for id, uncertain := range map[string]bool{"": true, "abcdef": false} {
		c := newCluster(t)
		c.answer("create", true, apierrors.NewAlreadyExists(secretsResource, "x"))
		tok := newToken(id)
		if err := c.Create(t.Context(), tok); !apierrors.IsAlreadyExists(err) || isUncertain(err) != uncertain {
			t.Errorf("id %q: error %T %v, want that it is uncertain: %v", id, err, err, uncertain)
		}
		if err := c.Undo(t.Context(), tok); err != nil || c.stored("bootstrap-token-"+tok.ID) != nil {
			t.Errorf("id %q: the token is still there: %v", id, err)
		}
	}
}

func TestAChangeWhoseAnswerIsLostIsUncertain(t *testing.T) {
	for err, want := range map[error]bool{
		errLost: true,
		apierrors.NewInternalError(errors.New("x")):                                       true,
		apierrors.NewTimeoutError("x", 0):                                                 true,
		&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusRequestTimeout}}: true,
		errForbidden:                         false,
		apierrors.NewTooManyRequests("x", 0): false,
	} {
		for verb, change := range changes {
			c := newCluster(t)
			c.answer(verb, false, err)
			if got := change(t.Context(), c.Store); !errors.Is(got, err) || isUncertain(got) != want || strings.Contains(got.Error(), secretPart) {
				t.Errorf("%s: error %T %v, want that it is uncertain: %v", verb, got, got, want)
			}
		}
	}
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
}

func TestUndoFindsATokenWhoseAnswerWasLost(t *testing.T) {
	for name, delay := range map[string]time.Duration{"at once": 0, "late": 2 * time.Second, "never": -1} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, "ghijkl")
			c.answer("create", delay == 0, errLost)
			tok := newToken("abcdef")
			if err := c.Create(t.Context(), tok); !isUncertain(err) {
				t.Fatalf("%s: error %v, want an uncertain one", name, err)
			}
			if delay > 0 {
				time.AfterFunc(delay, func() { _ = c.put(bootstrap.EncodeSecret(tok)) })
			}
			interrupted, cancel := context.WithCancel(t.Context())
			cancel()
			start := time.Now()
			if err := c.Undo(interrupted, tok); err != nil || time.Since(start) > 3*time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
			time.Sleep(5 * time.Second) // of synctest, until a late one has come
			c.wantTokens(t, "ghijkl")
		})
	}
}

func TestUndoNeverTouchesAnotherSecret(t *testing.T) {
	for name, change := range map[string]func(*corev1.Secret){
		"other data":   func(s *corev1.Secret) { s.Data["description"] = []byte("of somebody else") },
		"other secret": func(s *corev1.Secret) { s.Data["token-secret"] = []byte("ffffffffffffffff") },
		"other type":   func(s *corev1.Secret) { s.Type = "Opaque" },
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			other := bootstrap.EncodeSecret(newToken("abcdef"))
			change(other)
			_ = c.put(other)
			if err := c.Undo(t.Context(), newToken("abcdef")); err != nil || c.stored(other.Name) == nil {
				t.Errorf("%s: error %v, Secret %v", name, err, c.stored(other.Name))
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
		"two lost requests": {errLost, 2, 3, nil},
		"no answer at all":  {errLost, 1000, 12, errLost},
		"forbidden":         {errForbidden, 1000, 1, errForbidden},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, "abcdef")
			attempts := 0
			c.PrependReactor("delete", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
				attempts++
				return attempts <= test.failures, nil, test.err
			})
			if err := c.Undo(t.Context(), c.get(t, "abcdef")); !errors.Is(err, test.want) || attempts < test.attempts || attempts > test.attempts+1 {
				t.Errorf("%s: error %v after %d attempts, want %v after %d", name, err, attempts, test.want, test.attempts)
			}
		})
	}
}

func TestAnotherTokenOfTheSameNameIsSpared(t *testing.T) {
	c := newCluster(t, "abcdef", "ghijkl")
	tok := c.get(t, "abcdef")
	another := newToken("abcdef")
	another.Secret = "ffffffffffffffff"
	_ = c.Tracker().Delete(secretsVersion, bootstrap.Namespace, "bootstrap-token-abcdef")
	_ = c.put(bootstrap.EncodeSecret(another))
	if err := c.Undo(t.Context(), tok); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), tok); !apierrors.IsConflict(err) || isUncertain(err) {
		t.Errorf("error %v, want a Conflict", err)
	}
	changed := c.get(t, "abcdef")
	changed.ResourceVersion = "1"
	if err := c.Delete(t.Context(), changed); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a Conflict: the token has changed", err)
	}
	c.wantTokens(t, "abcdef", "ghijkl")
	if err := c.Delete(t.Context(), c.get(t, "abcdef")); err != nil {
		t.Error(err)
	}
	c.wantTokens(t, "ghijkl")
}

func TestExtendPatchesTheExpirationOfThisTokenAlone(t *testing.T) {
	for expires, want := range map[time.Time]string{
		now.Add(48 * time.Hour): `{"data":{"expiration":"MjAyNS0wNi0wM1QxMjowMDowMFo="},"metadata":{"uid":"uid-1"}}`,
		{}:                      `{"data":{"expiration":null},"metadata":{"uid":"uid-1"}}`,
	} {
		c := newCluster(t, "abcdef")
		extended, err := c.WithDryRun().Extend(t.Context(), c.get(t, "abcdef"), expires)
		if err != nil || !extended.Expires.Equal(expires) {
			t.Errorf("token %v, error %v", extended, err)
		}
		patch := c.Actions()[1].(clienttesting.PatchActionImpl)
		if string(patch.Patch) != want || patch.PatchType != "application/merge-patch+json" || patch.PatchOptions.DryRun == nil {
			t.Errorf("patch %s, want %s", patch.Patch, want)
		}
	}
}

func TestNothingIsSentAfterAnInterrupt(t *testing.T) {
	c := newCluster(t)
	interrupt := errors.New("interrupt")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt)
	for verb, change := range changes {
		if err := change(ctx, c.Store); !errors.Is(err, interrupt) || isUncertain(err) || len(c.Actions()) > 0 {
			t.Errorf("%s: error %T %v, requests %v", verb, err, err, c.Actions())
		}
	}
}
