package bootstrap

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

const (
	tokenSelector = "type=" + string(bootstrapapi.SecretTypeBootstrapToken)
	undoInterval  = 250 * time.Millisecond
)

// UncertainError is returned if the request for a change was sent, and no answer
// told whether the change was made.
type UncertainError struct{ Err error }

func (e *UncertainError) Error() string { return "outcome unknown: " + e.Err.Error() }

// Unwrap returns the error of the request.
func (e *UncertainError) Unwrap() error { return e.Err }

// Secrets is a client for the Secrets of Namespace. SecretInterface of client-go
// (k8s.io/client-go/kubernetes/typed/core/v1) implements it.
// It takes any JSON object for a Secret: its transport should refuse answers of proxies.
type Secrets interface {
	Create(ctx context.Context, secret *corev1.Secret, opts metav1.CreateOptions) (*corev1.Secret, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*corev1.Secret, error)
	List(ctx context.Context, opts metav1.ListOptions) (*corev1.SecretList, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*corev1.Secret, error)
}

// Store manages the bootstrap tokens of a cluster. It is safe for concurrent use
// if its client is.
//
// Create, Delete and Extend do nothing if their context is already cancelled. If
// it is cancelled later, the request goes on for up to three seconds, so that its
// outcome becomes known.
type Store struct {
	secrets Secrets
	dryRun  []string
}

// NewStore returns a store for the cluster of the client.
func NewStore(secrets Secrets) *Store { return &Store{secrets: secrets} }

// WithDryRun returns a store whose changes the API server only checks.
func (s *Store) WithDryRun() *Store { return &Store{s.secrets, []string{metav1.DryRunAll}} }

// Get returns the token of a reference. A malformed Secret is no error, and another
// secret than that of the reference is one.
func (s *Store) Get(ctx context.Context, ref Ref) (*Token, error) {
	secret, err := s.secrets.Get(ctx, ref.SecretName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if secret.Type != bootstrapapi.SecretTypeBootstrapToken {
		return nil, fmt.Errorf("secret %q is of type %q, not a bootstrap token", secret.Name, secret.Type)
	}
	t := FromSecret(secret)
	if ref.Secret != "" && ref.Secret != t.Secret {
		return nil, hint.New("the token has another secret in this cluster", "check that the token belongs to this cluster")
	}
	return t, nil
}

// List returns the tokens that match a label selector, in one request. An empty
// selector matches all. A watch from the resource version continues the list.
func (s *Store) List(ctx context.Context, selector string) (tokens []*Token, resourceVersion string, err error) {
	secrets, err := s.secrets.List(ctx, metav1.ListOptions{FieldSelector: tokenSelector, LabelSelector: selector})
	if err != nil {
		return nil, "", err
	}
	for i := range secrets.Items {
		// Fake clients ignore the field selector.
		if secret := &secrets.Items[i]; secret.Type == bootstrapapi.SecretTypeBootstrapToken {
			tokens = append(tokens, FromSecret(secret))
		}
	}
	return tokens, secrets.ResourceVersion, nil
}

// WatchWithContext watches the Secrets of the tokens, for client-go's RetryWatcher.
// FromSecret converts the objects of its events.
func (s *Store) WatchWithContext(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.FieldSelector = tokenSelector
	return s.secrets.Watch(ctx, opts)
}

// Create creates the token and sets its metadata. If the token has no id, Create
// generates the id and the secret. After an UncertainError, Undo removes the token
// if it was created.
func (s *Store) Create(ctx context.Context, t *Token) error {
	generated := t.ID == ""
	if generated {
		t.Token = Generate().WithCAHash(t.CAHash)
	}
	if err := t.Validate(); err != nil {
		return err
	}
	return write(ctx, func(ctx context.Context) error {
		secret, err := s.secrets.Create(ctx, EncodeSecret(t), metav1.CreateOptions{DryRun: s.dryRun})
		switch {
		case generated && apierrors.IsAlreadyExists(err):
			// One of two billion ids is hardly ever taken. It is more likely that
			// client-go sent the request again, after one that was carried out.
			return &UncertainError{err}
		case err != nil:
			return err
		}
		t.setMetadata(secret)
		return nil
	})
}

// Undo removes a token that Create made, or may have made if its error was an
// UncertainError. It never removes another Secret. It returns nil if the token is
// gone, or does not appear within three seconds. Undo works even if its context is
// cancelled, and ends after three seconds.
func (s *Store) Undo(ctx context.Context, t *Token) error {
	err := context.DeadlineExceeded // if no attempt comes to an end
	_ = wait.PollUntilContextTimeout(context.WithoutCancel(ctx), undoInterval, Grace, true, func(ctx context.Context) (bool, error) {
		done, attempt := s.tryUndo(ctx, t)
		if done || ctx.Err() == nil {
			err = attempt
		}
		return done, nil
	})
	return err
}

// tryUndo looks for the token and removes it, once.
func (s *Store) tryUndo(ctx context.Context, t *Token) (done bool, err error) {
	if t.UID == "" {
		found, err := s.find(ctx, t)
		if !found {
			return isCertain(err), err // without an error, the request may still arrive
		}
	}
	err = s.remove(ctx, t, metav1.Preconditions{UID: &t.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil
	}
	return err == nil || isCertain(err), err
}

// find reports whether the cluster has a Secret with exactly the data of the
// token, and sets the metadata of the token from it.
func (s *Store) find(ctx context.Context, t *Token) (bool, error) {
	want := EncodeSecret(t)
	secret, err := s.secrets.Get(ctx, want.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil || secret.Type != want.Type || !maps.EqualFunc(secret.Data, want.Data, bytes.Equal) {
		return false, err
	}
	t.setMetadata(secret)
	return true, nil
}

// Delete deletes a token that Get or List returned. The error is a Conflict if the
// token has changed since, as an expired one that was extended, or if another one
// has its name.
func (s *Store) Delete(ctx context.Context, t *Token) error {
	return write(ctx, func(ctx context.Context) error {
		return s.remove(ctx, t, metav1.Preconditions{UID: &t.UID, ResourceVersion: &t.ResourceVersion})
	})
}

// remove deletes the Secret of the token.
func (s *Store) remove(ctx context.Context, t *Token, preconditions metav1.Preconditions) error {
	return s.secrets.Delete(ctx, t.SecretName, metav1.DeleteOptions{DryRun: s.dryRun, Preconditions: &preconditions})
}

// Extend changes when a token that Get or List returned expires, and nothing else,
// so that no change of somebody else is lost. It sets t to the token in the cluster. The
// error is Invalid if another token has the name since.
func (s *Store) Extend(ctx context.Context, t *Token, expires time.Time) error {
	var expiration []byte // null in JSON, which removes the key
	if !expires.IsZero() {
		expiration = formatTime(expires)
	}
	patch, _ := json.Marshal(map[string]any{ // which cannot fail for strings and bytes
		"metadata": map[string]any{"uid": t.UID},
		"data":     map[string]any{bootstrapapi.BootstrapTokenExpirationKey: expiration},
	})
	return write(ctx, func(ctx context.Context) error {
		secret, err := s.secrets.Patch(ctx, t.SecretName, types.MergePatchType, patch, metav1.PatchOptions{DryRun: s.dryRun})
		if err == nil {
			*t = *FromSecret(secret)
		}
		return err
	})
}

// Grace bounds the work that goes on after an interrupt: a change that is under way,
// and its undo.
const Grace = 3 * time.Second

// WithGrace returns a context for such work. It ends Grace after ctx does.
func WithGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(Grace, cancel) })
	return lasting, func() {
		stop()
		cancel()
	}
}

// write makes the request for a change. Its error is an UncertainError unless it
// proves that nothing was changed.
func write(ctx context.Context, request func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lasting, cancel := WithGrace(ctx)
	defer cancel()
	err := request(lasting)
	if _, ok := errors.AsType[*UncertainError](err); ok || err == nil || isCertain(err) {
		return err
	}
	return &UncertainError{err}
}

// isCertain reports whether an error proves that nothing was changed: the API
// server said so, or the request was not sent. A server error proves nothing.
func isCertain(err error) bool {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		code := status.ErrStatus.Code
		return code >= 300 && code < 500 && code != http.StatusRequestTimeout
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}
