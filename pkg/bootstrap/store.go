package bootstrap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// DefaultParallel is how many requests a Store has under way at once.
	// More gains nothing against one API server, and asks more than a small
	// one wants to give.
	DefaultParallel = 32

	// DefaultChunkSize is how many tokens a list request asks for.
	DefaultChunkSize = 500

	// grace is how long a write that is under way may go on after an
	// interrupt, so that its outcome is known.
	grace = 5 * time.Second

	// redraws is how often a generated id may be taken before something is
	// thought to be wrong: there are two billion ids.
	redraws = 10

	// listFrom is from how many tokens on Find lists them all instead of
	// getting each.
	listFrom = 64
)

// Store keeps the bootstrap tokens of one cluster. Its methods may be called
// from several goroutines.
type Store struct {
	secrets  corev1client.SecretInterface
	parallel int
	dryRun   []string
}

// NewStore returns the store behind a client.
func NewStore(client corev1client.SecretsGetter) *Store {
	return &Store{secrets: client.Secrets(Namespace), parallel: DefaultParallel}
}

// WithDryRun returns a store that has the API server check each write, and
// then not carry it out.
func (s *Store) WithDryRun() *Store {
	dry := *s
	dry.dryRun = []string{metav1.DryRunAll}
	return &dry
}

// UncertainError is returned where a request to create a token left, and no
// answer told what became of it.
type UncertainError struct{ Err error }

func (e *UncertainError) Error() string { return e.Err.Error() }

// Unwrap returns the error that hid the answer.
func (e *UncertainError) Unwrap() error { return e.Err }

// Create writes a token that has its id and secret. It makes one request, so
// that a token with the same id is never overwritten: that is an AlreadyExists
// error. After an *UncertainError the token may exist; Undo tells and mends.
func (s *Store) Create(ctx context.Context, t *Token) error {
	var created *corev1.Secret
	sent, err := write(ctx, func(ctx context.Context) (err error) {
		created, err = s.secrets.Create(ctx, t.Secret(), metav1.CreateOptions{DryRun: s.dryRun})
		return err
	})
	switch {
	case err == nil:
		t.adopt(created)
		return nil
	case sent && !isRefusal(err):
		return &UncertainError{err}
	}
	return err
}

// isRefusal tells whether the API server itself said that it did not do what
// was asked. Server errors do not say so: the write may have come through.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code >= 400 && status.Status().Code < 500 &&
		status.Status().Code != http.StatusRequestTimeout
}

// CreateRandom gives the token an id and a secret and creates it. An id that
// the cluster has already is drawn again. The random source must be safe for
// use from several goroutines where the store is.
func (s *Store) CreateRandom(ctx context.Context, t *Token, random io.Reader) error {
	for range redraws {
		drawn, err := token.GenerateBootstrap(random)
		if err != nil {
			return err
		}
		t.Token = drawn
		err = s.Create(ctx, t)
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		// The client repeats a request that was answered with 503 and
		// Retry-After. Where the first one did come through, the Secret that
		// exists is this very token.
		if found, err := s.secrets.Get(ctx, SecretName(t.ID), metav1.GetOptions{}); err == nil && t.isStoredIn(found) {
			t.adopt(found)
			return nil
		}
	}
	return fmt.Errorf("%d random token ids in a row exist in the cluster already: this cannot be chance, look at its Secrets", redraws)
}

// CreateAll creates the tokens at once, several at a time: as they are where
// they have an id, with a random one where not. It returns an error for each
// token, in their order; tokens that an interrupt left undone have the
// context's error. step is told after each how many are done.
func (s *Store) CreateAll(ctx context.Context, tokens []*Token, random io.Reader, step func(done int)) []error {
	return s.each(ctx, len(tokens), step, func(i int) error {
		if tokens[i].ID != "" {
			return s.Create(ctx, tokens[i])
		}
		return s.CreateRandom(ctx, tokens[i], random)
	})
}

// Undo removes a token that was just created, or that may have been. It
// removes nothing else: the Secret must be the one that Create made, or, where
// that is not known, hold the same data to the byte. That there is none is no
// error. It does its work even when the context is cancelled already, within
// the bound given.
func (s *Store) Undo(ctx context.Context, t *Token, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	defer cancel()
	if t.uid == "" {
		found, err := s.secrets.Get(ctx, SecretName(t.ID), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if !t.isStoredIn(found) {
			return nil
		}
		t.adopt(found)
	}
	err := s.Delete(ctx, t)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// UndoAll is Undo for several tokens at a time.
func (s *Store) UndoAll(ctx context.Context, tokens []*Token, bound time.Duration) []error {
	return s.each(context.WithoutCancel(ctx), len(tokens), nil, func(i int) error {
		return s.Undo(ctx, tokens[i], bound)
	})
}

func (t *Token) isStoredIn(secret *corev1.Secret) bool {
	return secret.Type == bootstrapapi.SecretTypeBootstrapToken && maps.EqualFunc(secret.Data, t.Secret().Data, bytes.Equal)
}

func (t *Token) adopt(secret *corev1.Secret) {
	t.SecretName, t.Created, t.uid, t.resourceVersion = secret.Name, secret.CreationTimestamp.Time, secret.UID, secret.ResourceVersion
}

// List calls visit for each token of the cluster, in the order of their names,
// as the chunks of that size arrive; 0 asks for all of them at once. It stops
// at the first error of visit, and returns it.
func (s *Store) List(ctx context.Context, chunkSize int64, visit func(*Token) error) error {
	opts := metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(bootstrapapi.SecretTypeBootstrapToken)).String(),
		Limit:         chunkSize,
	}
	last, restarted := "", false
	for {
		chunk, err := s.secrets.List(ctx, opts)
		if gone, ok := expired(err); ok && opts.Continue != "" {
			// The list took longer than the server keeps its state. It offers
			// to go on with the rest as it is now; else it is asked for all
			// of them in one piece, and what was visited is passed over.
			if opts.Continue = gone.Continue; opts.Continue == "" {
				opts.Limit, restarted = 0, true
			}
			continue
		}
		if err != nil {
			return err
		}
		for i := range chunk.Items {
			secret := &chunk.Items[i]
			// Test doubles, and some proxies, ignore the field selector.
			if secret.Type != bootstrapapi.SecretTypeBootstrapToken || restarted && secret.Name <= last {
				continue
			}
			last = secret.Name
			if err := visit(FromSecret(secret)); err != nil {
				return err
			}
		}
		if opts.Continue = chunk.Continue; opts.Continue == "" {
			return nil
		}
	}
}

func expired(err error) (metav1.ListMeta, bool) {
	var status apierrors.APIStatus
	if apierrors.IsResourceExpired(err) && errors.As(err, &status) {
		return status.Status().ListMeta, true
	}
	return metav1.ListMeta{}, false
}

// ListAll returns all tokens of the cluster, in the order of their names.
func (s *Store) ListAll(ctx context.Context, chunkSize int64) ([]*Token, error) {
	var tokens []*Token
	err := s.List(ctx, chunkSize, func(t *Token) error {
		tokens = append(tokens, t)
		return nil
	})
	return tokens, err
}

// Get returns the token that the Ref names. It returns ErrOtherSecret where
// the Ref has a secret part that is not the stored one's, and an error for a
// Secret that is no bootstrap token.
func (s *Store) Get(ctx context.Context, ref Ref) (*Token, error) {
	secret, err := s.secrets.Get(ctx, ref.SecretName, metav1.GetOptions{})
	if errors.Is(err, context.Canceled) {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := ref.check(secret); err != nil {
		return nil, err
	}
	return FromSecret(secret), nil
}

// Find is Get for several tokens: it returns a token or an error for each, in
// their order.
func (s *Store) Find(ctx context.Context, refs []Ref) ([]*Token, []error) {
	tokens := make([]*Token, len(refs))
	if len(refs) >= listFrom {
		if errs, ok := s.findInList(ctx, refs, tokens); ok {
			return tokens, errs
		}
	}
	errs := s.each(ctx, len(refs), nil, func(i int) (err error) {
		tokens[i], err = s.Get(ctx, refs[i])
		return err
	})
	return tokens, errs
}

// findInList looks the tokens up in a list of all: a few requests instead of
// one for each. It gives up where the list is not allowed.
func (s *Store) findInList(ctx context.Context, refs []Ref, tokens []*Token) ([]error, bool) {
	all, err := s.ListAll(ctx, DefaultChunkSize)
	if apierrors.IsForbidden(err) {
		return nil, false
	}
	if err != nil {
		// No other request would fare better.
		return slices.Repeat([]error{err}, len(refs)), true
	}
	byName := make(map[string]*Token, len(all))
	for _, t := range all {
		byName[t.SecretName] = t
	}
	errs := s.each(ctx, len(refs), nil, func(i int) (err error) {
		t := byName[refs[i].SecretName]
		if t == nil {
			// It may be a Secret of another type: the API's own word is best.
			tokens[i], err = s.Get(ctx, refs[i])
			return err
		}
		if err := refs[i].check(t.Secret()); err != nil {
			return err
		}
		tokens[i] = t
		return nil
	})
	return errs, true
}

// Delete removes a token that the store has returned. It is a Conflict error
// where another one has taken its name since.
func (s *Store) Delete(ctx context.Context, t *Token) error {
	return s.delete(ctx, t, metav1.Preconditions{})
}

// DeleteAll is Delete for several tokens at a time. It returns an error for
// each, in their order; step is told after each how many are done.
func (s *Store) DeleteAll(ctx context.Context, tokens []*Token, step func(done int)) []error {
	return s.each(ctx, len(tokens), step, func(i int) error {
		return s.Delete(ctx, tokens[i])
	})
}

// DeleteUnchanged is DeleteAll for tokens that are to go because of the state
// that they were seen in. One that has changed since, as an expired one that
// was extended, stays, and is a Conflict error.
func (s *Store) DeleteUnchanged(ctx context.Context, tokens []*Token, step func(done int)) []error {
	return s.each(ctx, len(tokens), step, func(i int) error {
		return s.delete(ctx, tokens[i], metav1.Preconditions{ResourceVersion: &tokens[i].resourceVersion})
	})
}

func (s *Store) delete(ctx context.Context, t *Token, preconditions metav1.Preconditions) error {
	if t.uid != "" {
		preconditions.UID = &t.uid
	}
	_, err := write(ctx, func(ctx context.Context) error {
		return s.secrets.Delete(ctx, t.SecretName, metav1.DeleteOptions{DryRun: s.dryRun, Preconditions: &preconditions})
	})
	return err
}

// Extend gives the token that the Ref names another end; the zero time is
// never. Where somebody else changes the Secret in between, it looks again, so
// that no change is lost.
func (s *Store) Extend(ctx context.Context, ref Ref, expires time.Time) (*Token, error) {
	var extended *Token
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		t, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		extended, err = s.setExpiry(ctx, t, expires)
		return err
	})
	return extended, err
}

func (s *Store) setExpiry(ctx context.Context, t *Token, expires time.Time) (*Token, error) {
	// A null removes the key.
	data := map[string][]byte{bootstrapapi.BootstrapTokenExpirationKey: nil}
	if !expires.IsZero() {
		data[bootstrapapi.BootstrapTokenExpirationKey] = []byte(formatTime(expires))
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": t.resourceVersion, "uid": t.uid},
		"data":     data,
	})
	if err != nil {
		return nil, err
	}
	var patched *corev1.Secret
	_, err = write(ctx, func(ctx context.Context) (err error) {
		patched, err = s.secrets.Patch(ctx, t.SecretName, types.MergePatchType, patch, metav1.PatchOptions{DryRun: s.dryRun})
		return err
	})
	if err != nil {
		return nil, err
	}
	return FromSecret(patched), nil
}

// ExtendAll is Extend for several tokens at a time. It returns a token or an
// error for each, in their order.
func (s *Store) ExtendAll(ctx context.Context, refs []Ref, expires time.Time) ([]*Token, []error) {
	tokens := make([]*Token, len(refs))
	errs := s.each(ctx, len(refs), nil, func(i int) (err error) {
		tokens[i], err = s.Extend(ctx, refs[i], expires)
		return err
	})
	return tokens, errs
}

// each calls do for 0 to n-1, several at a time, and returns what they
// returned. It calls no further once the context is done. step, where there is
// one, is told after each how many are done, one call at a time.
func (s *Store) each(ctx context.Context, n int, step func(done int), do func(i int) error) []error {
	errs := make([]error, n)
	var next atomic.Int64
	var workers sync.WaitGroup
	var counting sync.Mutex
	done := 0
	for range min(n, s.parallel) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if errs[i] = context.Cause(ctx); errs[i] != nil {
					continue
				}
				errs[i] = do(i)
				if step != nil {
					counting.Lock()
					done++
					step(done)
					counting.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return errs
}

// write makes a request that changes the cluster, and tells whether it may have
// left: from then on an interrupt lets it go on for a while, so that its
// outcome is known. Before, it is given up, and the interrupt is the error.
func write(ctx context.Context, request func(context.Context) error) (sent bool, err error) {
	graceful, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// That the headers are written is told too late, by another goroutine.
	var connected atomic.Bool
	graceful = httptrace.WithClientTrace(graceful, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	stop := context.AfterFunc(ctx, func() {
		if connected.Load() {
			select {
			case <-time.After(grace):
			case <-graceful.Done():
			}
		}
		cancel()
	})
	defer stop()
	err = request(graceful)
	if err != nil && !connected.Load() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return connected.Load(), err
}
