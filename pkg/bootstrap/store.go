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
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// DefaultParallel is how many requests a Store has under way at once.
	// More gains nothing against one API server, and asks more than a small
	// one wants to give.
	DefaultParallel = 32

	// AllAtOnce is the chunk size of a list that is asked for in one request.
	// K3s reads its whole table for each chunk, so that in chunks of 500,
	// which is what kubectl asks for, 50,000 tokens cost it seven times as
	// much.
	AllAtOnce = 0

	// grace is how long a write that is under way may go on after an
	// interrupt, so that its outcome is known.
	grace = 5 * time.Second

	// redraws is how often a generated id may be taken before something is
	// thought to be wrong: there are two billion ids.
	redraws = 10

	// listFrom is from how many tokens on Find lists them all instead of
	// getting each.
	listFrom = 64

	// maxExpirations is how often the server may forget a list that is read in
	// chunks, before it is asked for all in one.
	maxExpirations = 3

	// tries is how often at most a change is asked for whose answer was lost,
	// and how often a token is looked for that such a request may still make.
	// The pauses in between begin with firstPause, double, and come to 3.1
	// seconds: a request that has arrived is carried out or given up by then.
	tries      = 6
	firstPause = 100 * time.Millisecond

	// unansweredInARow is after how many requests in a row without an answer no
	// further is begun: as many as are under way at once by default.
	unansweredInARow = DefaultParallel

	// repeatFor is how long after the first lost answer a change is still asked
	// for again.
	repeatFor = 10 * time.Second
)

// Secrets is a client for the Secrets of one namespace: what a Store uses of
// package kube's.
type Secrets interface {
	Create(ctx context.Context, secret *corev1.Secret, opts metav1.CreateOptions) (*corev1.Secret, error)
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*corev1.Secret, error)
	List(ctx context.Context, opts metav1.ListOptions, visit func(*corev1.Secret) error) (metav1.ListMeta, error)
	Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, opts metav1.PatchOptions) (*corev1.Secret, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// Store keeps the bootstrap tokens of one cluster. Its methods may be called
// from several goroutines.
type Store struct {
	secrets  Secrets
	parallel int
	dryRun   []string
}

// NewStore returns the store behind a client for the Secrets in Namespace.
func NewStore(secrets Secrets) *Store {
	return &Store{secrets: secrets, parallel: DefaultParallel}
}

// WithParallel returns a store that has at most n requests under way at once.
func (s *Store) WithParallel(n int) *Store {
	other := *s
	other.parallel = n
	return &other
}

// WithDryRun returns a store that has the API server check each write, and
// then not carry it out.
func (s *Store) WithDryRun() *Store {
	dry := *s
	dry.dryRun = []string{metav1.DryRunAll}
	return &dry
}

// UncertainError is returned where a request to create, delete or extend a token
// left, and no answer told what became of it.
type UncertainError struct{ Err error }

func (e *UncertainError) Error() string { return e.Err.Error() }

// Unwrap returns the error that hid the answer.
func (e *UncertainError) Unwrap() error { return e.Err }

// Create writes a token that has its id and secret. It makes one request, so
// that a token with the same id is never overwritten: that is an AlreadyExists
// error. After an *UncertainError the token may exist; UndoAll tells and mends.
func (s *Store) Create(ctx context.Context, t *Token) error {
	var created *corev1.Secret
	sent, err := write(ctx, func(ctx context.Context) (err error) {
		created, err = s.secrets.Create(ctx, t.Secret(), metav1.CreateOptions{DryRun: s.dryRun})
		return err
	})
	if sent > 1 && apierrors.IsAlreadyExists(err) {
		// Where the first of several requests did come through, the Secret
		// that exists is this very token.
		found, getErr := s.secrets.Get(ctx, SecretName(t.ID), metav1.GetOptions{})
		switch {
		case getErr == nil && t.isStoredIn(found):
			created, err = found, nil
		case getErr == nil || apierrors.IsNotFound(getErr):
			return err
		}
	}
	if err == nil {
		t.adopt(created)
		return nil
	}
	return unlessCertain(sent, err)
}

// unlessCertain wraps the error of a change that was sent so many times, if it
// may have come through all the same.
func unlessCertain(sent int, err error) error {
	if err == nil || sent == 0 || sent == 1 && isRefusal(err) {
		return err
	}
	return &UncertainError{err}
}

// isRefusal tells whether the API server itself, or one that would redirect to
// it, said that it did not do what was asked. Server errors do not say so: the
// write may have come through. Of a request that the client repeated, as it does
// after 503 with Retry-After, it only speaks of the last time.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code >= 300 && status.Status().Code < 500 &&
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
		var uncertain *UncertainError
		if !apierrors.IsAlreadyExists(err) || errors.As(err, &uncertain) {
			return err
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

// ErrUnseen is what UndoAll returns for a token whose creation was never answered
// and that the cluster has not come to have while it was looked for: only a
// request that is still held up on its way could make it.
var ErrUnseen = errors.New("the request to create it was not answered, and the cluster does not have it")

// UndoAll removes tokens that were just created, or that may have been, several
// at a time. It removes nothing else: a Secret must be the one that Create made,
// or, where that is not known, hold the same data to the byte. That somebody else
// has removed it is no error. It does its work even when the context is cancelled
// already, and gives up when the server has not helped for as long as patience;
// after an interrupt that is no more than the grace of a write. It returns an
// error for each token, in their order.
func (s *Store) UndoAll(ctx context.Context, tokens []*Token, patience time.Duration) []error {
	wait := func() time.Duration {
		if ctx.Err() != nil {
			return min(patience, grace)
		}
		return patience
	}
	bounded, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	bound := time.AfterFunc(wait(), func() {
		cancel(fmt.Errorf("given up after %v: %w", wait(), context.DeadlineExceeded))
	})
	defer bound.Stop()
	defer context.AfterFunc(ctx, func() { bound.Reset(wait()) })()

	errs := make([]error, len(tokens))
	todo := make([]int, len(tokens))
	for i := range todo {
		todo[i] = i
	}
	for try := 1; len(todo) > 0; try++ {
		outcomes := s.each(bounded, len(todo), nil, func(i int) error {
			err := s.undoOnce(bounded, tokens[todo[i]])
			if err == nil || errors.Is(err, ErrUnseen) {
				bound.Reset(wait())
			}
			return err
		})
		var again []int
		for i, err := range outcomes {
			errs[todo[i]] = err
			switch {
			case err == nil:
			case errors.Is(err, ErrUnseen):
				// A request whose answer was lost may come through after
				// the look.
				if try < tries {
					again = append(again, todo[i])
				}
			case !isRefusal(err) || apierrors.IsTooManyRequests(err):
				again = append(again, todo[i])
			}
		}
		todo = again
		if len(todo) > 0 && !pause(bounded, try) {
			break
		}
	}
	return errs
}

// undoOnce is one try at it.
func (s *Store) undoOnce(ctx context.Context, t *Token) error {
	if t.uid == "" {
		found, err := s.secrets.Get(ctx, SecretName(t.ID), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return ErrUnseen
		case err != nil:
			return orCause(ctx, err)
		case !t.isStoredIn(found):
			// As long as another one has the name, ours cannot come to be.
			return nil
		}
		t.adopt(found)
	}
	// No grace here: the bound is one already.
	err := s.secrets.Delete(ctx, t.SecretName, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &t.uid}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return orCause(ctx, err)
}

// orCause returns why the context ended where that is what the error says.
func orCause(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// repetition is how a change is asked for again whose answer was lost.
type repetition struct {
	try  int
	lost time.Time
}

// pause waits before it is, or returns false where it is not to be. To a server
// that is slow to fail there are fewer requests.
func (r *repetition) pause(ctx context.Context) bool {
	if r.try++; r.try == 1 {
		r.lost = time.Now()
	}
	return r.try < tries && time.Since(r.lost) < repeatFor && pause(ctx, r.try)
}

// pause waits after that try, from 1; longer after each up to the last of
// tries. It returns false where the context ends meanwhile.
func pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(firstPause << (min(try, tries-1) - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *Token) isStoredIn(secret *corev1.Secret) bool {
	return secret.Type == bootstrapapi.SecretTypeBootstrapToken && maps.EqualFunc(secret.Data, t.Secret().Data, bytes.Equal)
}

func (t *Token) adopt(secret *corev1.Secret) {
	t.SecretName, t.Created, t.uid, t.resourceVersion = secret.Name, secret.CreationTimestamp.Time, secret.UID, secret.ResourceVersion
}

// List calls visit for each token of the cluster, in the order of their names,
// as they arrive, in chunks of that size or AllAtOnce. It stops at the first
// error of visit, and returns it.
func (s *Store) List(ctx context.Context, chunkSize int64, visit func(*Token) error) error {
	opts := metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(bootstrapapi.SecretTypeBootstrapToken)).String(),
		Limit:         chunkSize,
	}
	// A list in one piece is never begun anew, and need not be remembered.
	var visited map[string]bool
	if chunkSize != AllAtOnce {
		visited = map[string]bool{}
	}
	expirations := 0
	for {
		chunk, err := s.secrets.List(ctx, opts, func(secret *corev1.Secret) error {
			// Test doubles, and some proxies, ignore the field selector. And
			// not every datastore sorts as Go does: only the names themselves
			// tell what was visited.
			if secret.Type != bootstrapapi.SecretTypeBootstrapToken || visited[secret.Name] {
				return nil
			}
			if visited != nil {
				visited[secret.Name] = true
			}
			return visit(FromSecret(secret))
		})
		if gone, ok := expired(err); ok && opts.Continue != "" && expirations < maxExpirations {
			// The list took longer than the server keeps its state. It offers
			// to go on with the rest as it is now; else, or where that does
			// not help either, it is asked for all of them in one piece, and
			// what was visited is passed over.
			expirations++
			if opts.Continue = gone.Continue; opts.Continue == "" || expirations == maxExpirations {
				opts.Continue, opts.Limit = "", 0
			}
			continue
		}
		if err != nil {
			return err
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
	all, err := s.ListAll(ctx, AllAtOnce)
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

// delete repeats a request whose answer was lost: the token's UID keeps it from
// doing harm. Where it then finds no token any more, it is done.
func (s *Store) delete(ctx context.Context, t *Token, preconditions metav1.Preconditions) error {
	if t.uid != "" {
		preconditions.UID = &t.uid
	}
	asked := 0
	var again repetition
	for {
		sent, err := write(ctx, func(ctx context.Context) error {
			return s.secrets.Delete(ctx, t.SecretName, metav1.DeleteOptions{DryRun: s.dryRun, Preconditions: &preconditions})
		})
		asked += sent
		if err == nil || asked > 1 && apierrors.IsNotFound(err) && s.dryRun == nil {
			return nil
		}
		switch {
		case asked == 0 || apierrors.IsConflict(err):
			return err
		case isRefusal(err) || !again.pause(ctx):
			return unlessCertain(asked, err)
		}
	}
}

// An End says when tokens are to end; the zero time is never.
type End func() (time.Time, error)

// Extend gives the token that the Ref names another end. That is asked for once
// the token was read, when the server's time is known to whom it matters. Where
// somebody else changes the Secret in between, it looks again, so that no change
// is lost; so it does where the answer is.
func (s *Store) Extend(ctx context.Context, ref Ref, end End) (*Token, error) {
	var extended *Token
	asked := 0
	var again repetition
	once := func() error {
		t, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		expires, err := end()
		if err != nil {
			return err
		}
		if asked > 0 && t.endsAt(expires) {
			extended = t
			return nil
		}
		var sent int
		sent, extended, err = s.setExpiry(ctx, t, expires)
		asked += sent
		return err
	}
	for {
		// A Conflict of a request that the client repeated may be with itself.
		err := retry.RetryOnConflict(retry.DefaultBackoff, once)
		switch {
		case err == nil || asked == 0:
			return extended, err
		case apierrors.IsConflict(err), errors.Is(err, ErrOtherSecret):
			return nil, err
		case isRefusal(err) || !again.pause(ctx):
			return nil, unlessCertain(asked, err)
		}
	}
}

func (t *Token) endsAt(expires time.Time) bool {
	return t.Problem == "" && t.Expires.IsZero() == expires.IsZero() && formatTime(t.Expires) == formatTime(expires)
}

// setExpiry makes the request, and tells how often it may have left.
func (s *Store) setExpiry(ctx context.Context, t *Token, expires time.Time) (sent int, _ *Token, err error) {
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
		return 0, nil, err
	}
	var patched *corev1.Secret
	sent, err = write(ctx, func(ctx context.Context) (err error) {
		patched, err = s.secrets.Patch(ctx, t.SecretName, types.MergePatchType, patch, metav1.PatchOptions{DryRun: s.dryRun})
		return err
	})
	if err != nil {
		return sent, nil, err
	}
	if patched.Name != t.SecretName || string(patched.Data[bootstrapapi.BootstrapTokenExpirationKey]) != string(data[bootstrapapi.BootstrapTokenExpirationKey]) {
		return sent, nil, fmt.Errorf("the server answers with a Secret that does not have the expiry asked for: %q", patched.Name)
	}
	return sent, FromSecret(patched), nil
}

// ExtendAll is Extend for several tokens at a time. It returns a token or an
// error for each, in their order.
func (s *Store) ExtendAll(ctx context.Context, refs []Ref, end End) ([]*Token, []error) {
	tokens := make([]*Token, len(refs))
	errs := s.each(ctx, len(refs), nil, func(i int) (err error) {
		tokens[i], err = s.Extend(ctx, refs[i], end)
		return err
	})
	return tokens, errs
}

// each calls do for 0 to n-1, several at a time, and returns what they
// returned. It calls no further once the context is done, nor after
// unansweredInARow: the rest would fare no better, and each may take long. step,
// where there is one, is told after each how many are done, one call at a time.
func (s *Store) each(ctx context.Context, n int, step func(done int), do func(i int) error) []error {
	errs := make([]error, n)
	var next atomic.Int64
	var workers sync.WaitGroup
	var counting sync.Mutex
	done, unanswered := 0, 0
	var givenUp atomic.Pointer[UntriedError]
	for range min(n, s.parallel) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if errs[i] = context.Cause(ctx); errs[i] != nil {
					continue
				}
				if untried := givenUp.Load(); untried != nil {
					errs[i] = untried
					continue
				}
				errs[i] = do(i)
				counting.Lock()
				if isAnswered(errs[i]) {
					unanswered = 0
				} else if unanswered++; unanswered == unansweredInARow {
					givenUp.Store(untried(errs[i]))
				}
				done++
				if step != nil {
					step(done)
				}
				counting.Unlock()
			}
		})
	}
	workers.Wait()
	return errs
}

// isAnswered tells whether the error, or that there is none, is the word of a
// server that works.
func isAnswered(err error) bool {
	var status apierrors.APIStatus
	var connection *url.Error
	var uncertain *UncertainError
	if errors.As(err, &status) {
		return status.Status().Code < 500
	}
	return !errors.As(err, &connection) && !errors.As(err, &uncertain)
}

// UntriedError is that of a token which was not worked on, since the server did
// not answer for those before.
type UntriedError struct{ Err error }

func (e *UntriedError) Error() string { return e.Err.Error() }

// Unwrap returns the error of one of those before.
func (e *UntriedError) Unwrap() error { return e.Err }

func untried(err error) *UntriedError {
	var uncertain *UncertainError
	if errors.As(err, &uncertain) {
		err = uncertain.Err
	}
	return &UntriedError{err}
}

// write makes a request that changes the cluster, and tells how often it may
// have left: the client repeats one that is answered with 429, or with a server
// error and Retry-After. Once it has left, an interrupt lets it go on for a
// while, so that its outcome is known. Before, it is given up, and the interrupt
// is the error.
func write(ctx context.Context, request func(context.Context) error) (sent int, err error) {
	graceful, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// That the headers are written is told too late, by another goroutine.
	var connected atomic.Int64
	graceful = httptrace.WithClientTrace(graceful, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Add(1) }})
	stop := context.AfterFunc(ctx, func() {
		if connected.Load() > 0 {
			select {
			case <-time.After(grace):
			case <-graceful.Done():
			}
		}
		cancel()
	})
	defer stop()
	err = request(graceful)
	if err != nil && connected.Load() == 0 && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return int(connected.Load()), err
}
