package bootstrap_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

var (
	errLost      = io.ErrUnexpectedEOF
	errForbidden = apierrors.NewForbidden(secretsResource.GroupResource(), "bootstrap-token-abcdef", errors.New("no"))
)

func TestCreateSetsTheMetadata(t *testing.T) {
	c := newCluster(t)
	tok := newToken("")
	if err := c.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	secret := c.stored("bootstrap-token-" + tok.ID)
	if secret == nil || tok.SecretName != secret.Name || tok.UID != secret.UID || tok.ResourceVersion != secret.ResourceVersion || !tok.Created.Equal(now) {
		t.Errorf("token %#v, want the metadata of %v", tok, secret)
	}
	invalid := newToken("")
	invalid.Groups = []string{"system:masters"}
	if err := c.Create(t.Context(), invalid); err == nil {
		t.Error("an invalid token was created")
	}
	c.wantVerbs(t, "create")
}

// client-go repeats a request after a server error with Retry-After. If the first
// was carried out, the second is answered with AlreadyExists.
func TestAGeneratedIDThatExistsIsUncertain(t *testing.T) {
	for id, uncertain := range map[string]bool{"": true, "abcdef": false} {
		c := newCluster(t)
		c.answer("create", true, apierrors.NewAlreadyExists(secretsResource.GroupResource(), "x"))
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
	resource := secretsResource.GroupResource()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"connection lost":   {errLost, true},
		"internal error":    {apierrors.NewInternalError(errors.New("x")), true},
		"bad gateway":       {apierrors.NewGenericServerResponse(http.StatusBadGateway, "", resource, "", "", 0, true), true},
		"request timeout":   {apierrors.NewGenericServerResponse(http.StatusRequestTimeout, "", resource, "", "", 0, true), true},
		"forbidden":         {errForbidden, false},
		"too many requests": {apierrors.NewTooManyRequests("x", 0), false},
	} {
		for verb, change := range map[string]string{"create": "create", "delete": "delete", "patch": "extend"} {
			c := newCluster(t)
			c.answer(verb, false, test.err)
			err := requests[change](t.Context(), c.Store)
			if !errors.Is(err, test.err) || isUncertain(err) != test.want || strings.Contains(err.Error(), secretPart) {
				t.Errorf("%s, %s: error %T %v, want that it is uncertain: %v", change, name, err, err, test.want)
			}
		}
	}
}

func TestAClosedConnectionIsUncertain(t *testing.T) {
	untrusted := httptest.NewTLSServer(nil)
	defer untrusted.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, verb := range []string{"create", "delete", "extend"} {
		err := requests[verb](t.Context(), newHTTPStore(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		if !isUncertain(err) || !strings.HasPrefix(err.Error(), "outcome unknown: ") {
			t.Errorf("%s: error %T %v, want an uncertain one", verb, err, err)
		}
		for _, url := range []string{closed.URL, untrusted.URL} {
			if err := requests[verb](t.Context(), newStoreAt(t, url)); err == nil || isUncertain(err) {
				t.Errorf("%s: error %T %v, want a certain one: nothing was sent", verb, err, err)
			}
		}
	}
}

func TestUndoRemovesWhatCreateMade(t *testing.T) {
	c := newCluster(t, "ghijkl")
	tok := newToken("abcdef")
	if err := c.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 { // the second time it is gone
		if err := c.Undo(ctx, tok); err != nil {
			t.Error(err)
		}
	}
	c.wantTokens(t, "ghijkl")
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
				time.AfterFunc(delay, func() { c.put(bootstrap.EncodeSecret(tok)) })
			}
			start := time.Now()
			if err := c.Undo(t.Context(), tok); err != nil || time.Since(start) > 3*time.Second {
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
			c.put(other)
			if err := c.Undo(t.Context(), newToken("abcdef")); err != nil || c.stored(other.Name) == nil {
				t.Errorf("%s: error %v, Secret %v", name, err, c.stored(other.Name))
			}
		})
	}
	c := newCluster(t)
	tok := newToken("abcdef")
	if err := c.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	c.replace("abcdef")
	if err := c.Undo(t.Context(), tok); err != nil {
		t.Error(err)
	}
	c.wantTokens(t, "abcdef")
}

func TestUndoRepeatsWhatIsUncertain(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		failures int
		attempts int
		want     error
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

func TestDeleteSparesWhatHasChanged(t *testing.T) {
	for name, change := range map[string]func(*cluster) error{
		"replaced": func(c *cluster) error { c.replace("abcdef"); return nil },
		"extended": func(c *cluster) error {
			_, err := c.Extend(context.Background(), bootstrap.FromSecret(c.stored("bootstrap-token-abcdef")), now.Add(48*time.Hour))
			return err
		},
	} {
		c := newCluster(t, "abcdef", "ghijkl")
		tok := c.get(t, "abcdef")
		if err := change(c); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), tok); !apierrors.IsConflict(err) || isUncertain(err) {
			t.Errorf("%s: error %v, want a Conflict", name, err)
		}
		c.wantTokens(t, "abcdef", "ghijkl")
		if err := c.Delete(t.Context(), c.get(t, "abcdef")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.wantTokens(t, "ghijkl")
	}
}

func TestExtendPatchesTheExpirationAlone(t *testing.T) {
	for expires, want := range map[time.Time]string{
		now.Add(48 * time.Hour): `{"data":{"expiration":"MjAyNS0wNi0wM1QxMjowMDowMFo="},"metadata":{"uid":"uid-1"}}`,
		{}:                      `{"data":{"expiration":null},"metadata":{"uid":"uid-1"}}`,
	} {
		c := newCluster(t, "abcdef")
		tok := c.get(t, "abcdef")
		changed := c.stored(tok.SecretName)
		changed.Data["description"] = []byte("changed meanwhile")
		if err := c.Tracker().Update(secretsResource, changed, bootstrap.Namespace); err != nil {
			t.Fatal(err)
		}
		extended, err := c.Extend(t.Context(), tok, expires)
		if err != nil {
			t.Fatal(err)
		}
		stored := bootstrap.FromSecret(c.stored(tok.SecretName))
		if !extended.Expires.Equal(expires) || !stored.Expires.Equal(expires) || stored.Description != "changed meanwhile" {
			t.Errorf("returned %v, stored %v with description %q", extended.Expires, stored.Expires, stored.Description)
		}
		if patch := c.Actions()[1].(clienttesting.PatchActionImpl); string(patch.Patch) != want || patch.PatchType != "application/merge-patch+json" {
			t.Errorf("patch %s, want %s", patch.Patch, want)
		}
	}
}

func TestExtendSparesAnotherToken(t *testing.T) {
	c := newCluster(t, "abcdef")
	tok := c.get(t, "abcdef")
	c.replace("abcdef")
	if _, err := c.Extend(t.Context(), tok, now); !apierrors.IsInvalid(err) || isUncertain(err) {
		t.Errorf("error %v, want Invalid", err)
	}
	if got := c.get(t, "abcdef"); !got.Expires.Equal(now.Add(time.Hour)) {
		t.Error("the other token was extended")
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	c := newCluster(t, "ghijkl")
	ghijkl := c.get(t, "ghijkl")
	dry := c.WithDryRun()
	for _, err := range []error{dry.Create(t.Context(), newToken("abcdef")), dry.Delete(t.Context(), ghijkl)} {
		if err != nil {
			t.Error(err)
		}
	}
	c.wantTokens(t, "ghijkl")
	if _, err := dry.Extend(t.Context(), ghijkl, now); err != nil {
		t.Error(err)
	}
	patch := c.Actions()[len(c.Actions())-1].(clienttesting.PatchActionImpl)
	if len(patch.PatchOptions.DryRun) != 1 || patch.PatchOptions.DryRun[0] != metav1.DryRunAll {
		t.Errorf("patch options %v", patch.PatchOptions)
	}
}

func TestNothingIsSentAfterAnInterrupt(t *testing.T) {
	c := newCluster(t)
	interrupt := errors.New("interrupt")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt)
	for _, verb := range []string{"create", "delete", "extend"} {
		if err := requests[verb](ctx, c.Store); !errors.Is(err, interrupt) || isUncertain(err) {
			t.Errorf("%s: error %T %v, want the cause of the context", verb, err, err)
		}
	}
	c.wantVerbs(t)
}

// slowSecrets is a client whose create requests take a while.
type slowSecrets struct {
	bootstrap.Secrets
	duration time.Duration
}

func (s slowSecrets) Create(ctx context.Context, secret *corev1.Secret, _ metav1.CreateOptions) (*corev1.Secret, error) {
	select {
	case <-time.After(s.duration):
		return secret, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestAChangeGoesOnForThreeSecondsAfterAnInterrupt(t *testing.T) {
	for _, test := range []struct {
		duration, took time.Duration
		uncertain      bool
	}{
		{time.Second / 2, time.Second / 2, false},
		{4*time.Second - 1, 4*time.Second - 1, false},
		{time.Hour, 4 * time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			err := bootstrap.NewStore(slowSecrets{duration: test.duration}).Create(ctx, newToken("abcdef"))
			if isUncertain(err) != test.uncertain || !test.uncertain && err != nil {
				t.Errorf("%v: error %v, want that it is uncertain: %v", test.duration, err, test.uncertain)
			}
			if took := time.Since(start); took != test.took {
				t.Errorf("%v: it took %v, want %v", test.duration, took, test.took)
			}
		})
	}
}
