package bootstrap_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

const tokenType = "bootstrap.kubernetes.io/token"

var secretsResource = schema.GroupResource{Resource: "secrets"}

func newStore(t *testing.T) (*apitest.Server, *bootstrap.Store) {
	t.Helper()
	api := apitest.New(t)
	return api, bootstrap.NewStore(api.Secrets(t))
}

// lockedReader is a deterministic source that several goroutines may read.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

func random() io.Reader { return &lockedReader{r: rand.NewChaCha8([32]byte{7})} }

// draws returns a source that draws tokens whose ids are six of each of the
// characters, in their order.
func draws(characters string) io.Reader {
	var source bytes.Buffer
	for _, c := range characters {
		source.Write(bytes.Repeat([]byte{byte(strings.IndexRune("0123456789abcdefghijklmnopqrstuvwxyz", c))}, token.IDLength+token.SecretLength))
	}
	return &source
}

// ids returns n different token ids, sorted.
func ids(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("id%04d", i)
	}
	return all
}

func putTokens(api *apitest.Server, ids ...string) {
	for _, id := range ids {
		api.Put(newToken(id).Secret())
	}
}

func refs(t *testing.T, names ...string) []bootstrap.Ref {
	t.Helper()
	all := make([]bootstrap.Ref, len(names))
	for i, name := range names {
		var err error
		if all[i], err = bootstrap.ParseRef(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func find(t *testing.T, s *bootstrap.Store, name string) *bootstrap.Token {
	t.Helper()
	found, err := s.Get(t.Context(), refs(t, name)[0])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantRequests(t *testing.T, got []apitest.Request, want ...string) {
	t.Helper()
	lines := make([]string, len(got))
	for i, r := range got {
		lines[i] = r.String()
	}
	if !slices.Equal(lines, want) {
		t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func wantNames(t *testing.T, api *apitest.Server, ids ...string) {
	t.Helper()
	want := make([]string, len(ids))
	for i, id := range ids {
		want[i] = bootstrap.SecretName(id)
	}
	if got := api.Names(); !slices.Equal(got, want) {
		t.Errorf("the cluster has %v, want %v", got, want)
	}
}

// answerFirst has the hook answer the first request of a method, and no other.
func answerFirst(method string, answer apitest.Hook) apitest.Hook {
	var done atomic.Bool
	return func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
		return req.Method == method && done.CompareAndSwap(false, true) && answer(w, r, req)
	}
}

// unavailable answers as a server does that asks to come again at once.
func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "0")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// undo is UndoAll for one token.
func undo(ctx context.Context, store *bootstrap.Store, t *bootstrap.Token, patience time.Duration) error {
	return store.UndoAll(ctx, []*bootstrap.Token{t}, patience)[0]
}

func TestCreateSendsOneRequest(t *testing.T) {
	api, store := newStore(t)
	tok := newToken("abcdef")
	if err := store.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	wantRequests(t, api.Requests(), "POST secrets")
	request := api.Requests()[0]
	if len(request.Query) != 0 {
		t.Errorf("query %v, want none", request.Query)
	}
	if accept := request.Header.Get("Accept"); !strings.HasPrefix(accept, "application/vnd.kubernetes.protobuf") {
		t.Errorf("it accepts %q, want protobuf first", accept)
	}
	if contentType := request.Header.Get("Content-Type"); contentType != "application/vnd.kubernetes.protobuf" {
		t.Errorf("the body is %q, want protobuf", contentType)
	}
	var sent corev1.Secret
	request.Decode(t, &sent)
	if want := newToken("abcdef").Secret(); sent.Name != want.Name || sent.Type != want.Type || fmt.Sprint(sent.Data) != fmt.Sprint(want.Data) {
		t.Error("the Secret that was sent is not the token's")
	}
	if tok.SecretName != "bootstrap-token-abcdef" || !tok.Created.Equal(api.Created) {
		t.Errorf("the token is in Secret %q since %v", tok.SecretName, tok.Created)
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	before := api.Secret("bootstrap-token-abcdef")
	err := store.Create(t.Context(), newToken("abcdef"))
	var uncertain *bootstrap.UncertainError
	if !apierrors.IsAlreadyExists(err) || errors.As(err, &uncertain) {
		t.Errorf("error %v, want a certain AlreadyExists", err)
	}
	wantRequests(t, api.Requests(), "POST secrets")
	if after := api.Secret("bootstrap-token-abcdef"); after.ResourceVersion != before.ResourceVersion {
		t.Error("the Secret was changed")
	}
}

func TestDryRunIsAskedOfTheServer(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "ghijkl")
	dry := store.WithDryRun()
	if err := dry.Create(t.Context(), newToken("abcdef")); err != nil {
		t.Fatal(err)
	}
	ghijkl := find(t, store, "ghijkl")
	if _, err := dry.Extend(t.Context(), bootstrap.Ref{SecretName: ghijkl.SecretName}, at(now)); err != nil {
		t.Fatal(err)
	}
	if err := dry.Delete(t.Context(), ghijkl); err != nil {
		t.Fatal(err)
	}
	for _, request := range api.Requests() {
		if request.Method != http.MethodGet && !request.DryRun() {
			t.Errorf("%s is no dry run", request)
		}
	}
	wantNames(t, api, "ghijkl")
	if got := find(t, store, "ghijkl"); !got.Expires.Equal(newToken("").Expires) {
		t.Errorf("the expiry was changed to %v", got.Expires)
	}
	if err := store.Delete(t.Context(), ghijkl); err != nil || len(api.Writes()) != 1 {
		t.Errorf("the store that the dry one was made of writes no more: %v", err)
	}
}

func TestCreateTellsUncertainFromRefused(t *testing.T) {
	fail := func(code int, reason metav1.StatusReason) apitest.Hook {
		return func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			apitest.Fail(w, req, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "no"}})
			return true
		}
	}
	tests := map[string]struct {
		hook      apitest.Hook
		uncertain bool
	}{
		"forbidden":                {fail(403, metav1.StatusReasonForbidden), false},
		"unauthorized":             {fail(401, metav1.StatusReasonUnauthorized), false},
		"invalid":                  {fail(422, metav1.StatusReasonInvalid), false},
		"too many requests":        {fail(429, metav1.StatusReasonTooManyRequests), false},
		"request timeout":          {fail(408, metav1.StatusReasonTimeout), true},
		"internal error":           {fail(500, metav1.StatusReasonInternalError), true},
		"server timeout":           {fail(504, metav1.StatusReasonTimeout), true},
		"bad gateway of no status": {func(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool { w.WriteHeader(502); return true }, true},
		"connection cut":           {func(http.ResponseWriter, *http.Request, apitest.Request) bool { apitest.Cut(); return true }, true},
		"garbage": {func(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
			_, _ = io.WriteString(w, "\x00garbage")
			return true
		}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			api, store := newStore(t)
			api.Handle(test.hook)
			err := store.Create(t.Context(), newToken("abcdef"))
			if err == nil {
				t.Fatal("no error")
			}
			var uncertain *bootstrap.UncertainError
			if errors.As(err, &uncertain) != test.uncertain {
				t.Errorf("error %T %v; that it is uncertain should be %v", err, err, test.uncertain)
			}
			if test.uncertain && (uncertain.Error() != uncertain.Err.Error() || !errors.Is(err, uncertain.Err)) {
				t.Error("the error hides the one below")
			}
			if strings.Contains(err.Error(), secretPart) {
				t.Error("the error holds the secret")
			}
		})
	}
}

func TestCreateIsCertainWhereNothingLeft(t *testing.T) {
	api, store := newStore(t)
	api.Close()
	err := store.Create(t.Context(), newToken("abcdef"))
	var uncertain *bootstrap.UncertainError
	if err == nil || errors.As(err, &uncertain) {
		t.Errorf("error %T %v, want a plain one: nobody listens", err, err)
	}
}

func TestCreateRandomDrawsAnIDThatIsTakenAgain(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "aaaaaa", "bbbbbb")
	api.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-cccccc"}, Type: "Opaque"})
	tok := newToken("")
	if err := store.CreateRandom(t.Context(), tok, draws("abcd")); err != nil {
		t.Fatal(err)
	}
	if tok.ID != "dddddd" {
		t.Errorf("id %q, want the first that is free", tok.ID)
	}
	wantNames(t, api, "aaaaaa", "bbbbbb", "cccccc", "dddddd")
	wantRequests(t, api.Requests(), "POST secrets", "POST secrets", "POST secrets", "POST secrets")
}

func TestCreateRandomGivesUpWhereEveryIDIsTaken(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "aaaaaa")
	err := store.CreateRandom(t.Context(), newToken(""), draws(strings.Repeat("a", 100)))
	if err == nil || !strings.Contains(err.Error(), "10 random token ids") {
		t.Errorf("error %v", err)
	}
	if n := len(api.Writes()); n != 10 {
		t.Errorf("%d attempts, want 10", n)
	}
}

func TestCreateRandomFailsWithItsSource(t *testing.T) {
	api, store := newStore(t)
	if err := store.CreateRandom(t.Context(), newToken(""), strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want %v", err, io.EOF)
	}
	if len(api.Requests()) > 0 {
		t.Error("a request was made")
	}
}

// carriedOut has the server carry the request out before it is answered
// otherwise.
func carriedOut(api *apitest.Server, answer apitest.Hook) apitest.Hook {
	return func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
		api.Serve(httptest.NewRecorder(), req)
		return answer(w, r, req)
	}
}

func comeAgain(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
	unavailable(w)
	return true
}

func cut(http.ResponseWriter, *http.Request, apitest.Request) bool {
	apitest.Cut()
	return true
}

func forbid(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
	apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "", errors.New("no")))
	return true
}

// inTurn answers the requests of a method by these hooks, and those after them
// as the server does.
func inTurn(method string, answers ...apitest.Hook) apitest.Hook {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
		if req.Method != method {
			return false
		}
		n := int(seen.Add(1))
		return n <= len(answers) && answers[n-1](w, r, req)
	}
}

// The client library repeats a request that is answered with 503 and
// Retry-After, though it may have been carried out.
func TestCreateKnowsItsOwnTokenAgain(t *testing.T) {
	for name, create := range map[string]func(*bootstrap.Store, *bootstrap.Token) error{
		"a random one": func(s *bootstrap.Store, tok *bootstrap.Token) error {
			return s.CreateRandom(context.Background(), tok, draws("ab"))
		},
		"a given one": func(s *bootstrap.Store, tok *bootstrap.Token) error {
			tok.ID = "aaaaaa"
			return s.Create(context.Background(), tok)
		},
	} {
		t.Run(name, func(t *testing.T) {
			api, store := newStore(t)
			api.Handle(inTurn(http.MethodPost, carriedOut(api, comeAgain)))
			tok := newToken("")
			if err := create(store, tok); err != nil {
				t.Fatal(err)
			}
			wantNames(t, api, "aaaaaa")
			if tok.ID != "aaaaaa" || tok.SecretName != "bootstrap-token-aaaaaa" {
				t.Errorf("it is taken for %v in Secret %q", tok.ID, tok.SecretName)
			}
			if err := undo(t.Context(), store, tok, time.Minute); err != nil {
				t.Error(err)
			}
			wantNames(t, api)
		})
	}
}

func TestARepeatedCreateIsUncertainWhereItCannotKnow(t *testing.T) {
	for name, hook := range map[string]func(api *apitest.Server) apitest.Hook{
		"it may not look": func(api *apitest.Server) apitest.Hook {
			post := inTurn(http.MethodPost, carriedOut(api, comeAgain))
			return func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
				return req.Method == http.MethodGet && forbid(w, r, req) || post(w, r, req)
			}
		},
		"it is forbidden at last": func(api *apitest.Server) apitest.Hook {
			return inTurn(http.MethodPost, carriedOut(api, comeAgain), forbid)
		},
	} {
		t.Run(name, func(t *testing.T) {
			api, store := newStore(t)
			api.Handle(hook(api))
			tok := newToken("")
			var uncertain *bootstrap.UncertainError
			if err := store.CreateRandom(t.Context(), tok, draws("ab")); !errors.As(err, &uncertain) {
				t.Errorf("error %T %v, want an uncertain one", err, err)
			}
			wantNames(t, api, "aaaaaa")
			if tok.ID != "aaaaaa" {
				t.Errorf("the token that may exist is called %q", tok.ID)
			}
		})
	}
}

func TestARepeatedCreateOfATakenIDIsRefused(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	another := newToken("abcdef")
	another.Token.Secret = "ffffffffffffffff"
	api.Handle(inTurn(http.MethodPost, comeAgain))
	err := store.Create(t.Context(), another)
	var uncertain *bootstrap.UncertainError
	if !apierrors.IsAlreadyExists(err) || errors.As(err, &uncertain) {
		t.Errorf("error %T %v, want a certain AlreadyExists", err, err)
	}
}

func TestManyRequestsEndWhereNoneIsAnswered(t *testing.T) {
	api, store := newStore(t)
	api.Handle(cut)
	tokens := make([]*bootstrap.Token, 10*bootstrap.DefaultParallel)
	for i := range tokens {
		tokens[i] = newToken("")
	}
	uncertain, untried := 0, 0
	for _, err := range store.CreateAll(t.Context(), tokens, random(), nil) {
		var u *bootstrap.UncertainError
		var n *bootstrap.UntriedError
		switch {
		case errors.As(err, &u):
			uncertain++
		case errors.As(err, &n):
			untried++
		default:
			t.Errorf("error %T %v", err, err)
		}
	}
	if n := len(api.Requests()); uncertain != n || untried != len(tokens)-n || n >= 3*bootstrap.DefaultParallel {
		t.Errorf("%d requests, %d uncertain and %d untried", n, uncertain, untried)
	}
}

func TestOneFailureEndsNothing(t *testing.T) {
	api, store := newStore(t)
	var writes atomic.Int64
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method != http.MethodPost || writes.Add(1) != 2 {
			return false
		}
		apitest.Fail(w, req, apierrors.NewInternalError(errors.New("failed calling webhook")))
		return true
	})
	tokens := make([]*bootstrap.Token, 20)
	for i := range tokens {
		tokens[i] = newToken(fmt.Sprintf("abcd%02d", i))
	}
	errs := store.WithParallel(1).CreateAll(t.Context(), tokens, nil, nil)
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) != 1 || len(api.Names()) != 19 {
		t.Errorf("%d tokens were made, errors %v", len(api.Names()), failed)
	}
}

func TestCreateAllKeepsOrderAndTriesAll(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "taken1")
	given, taken := newToken("given1"), newToken("taken1")
	tokens := []*bootstrap.Token{newToken(""), given, taken, newToken("")}
	var steps []int
	errs := store.CreateAll(t.Context(), tokens, random(), func(done int) { steps = append(steps, done) })
	if errs[0] != nil || errs[1] != nil || !apierrors.IsAlreadyExists(errs[2]) || errs[3] != nil {
		t.Errorf("errors %v, want one for the third", errs)
	}
	if !slices.Equal(steps, []int{1, 2, 3, 4}) {
		t.Errorf("steps %v", steps)
	}
	if tokens[0].ID == tokens[3].ID || tokens[1].ID != "given1" {
		t.Error("the ids are not as they should be")
	}
	if n := len(api.Names()); n != 4 {
		t.Errorf("the cluster has %d tokens, want 4", n)
	}
}

func TestManyRequestsAreBoundedAndParallel(t *testing.T) {
	api, store := newStore(t)
	// None is answered before as many as may be under way have arrived.
	var arrived atomic.Int64
	all := make(chan struct{})
	api.Handle(func(http.ResponseWriter, *http.Request, apitest.Request) bool {
		if arrived.Add(1) == bootstrap.DefaultParallel {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(5 * time.Second):
			t.Error("requests wait for each other")
		}
		time.Sleep(time.Millisecond)
		return false
	})
	tokens := make([]*bootstrap.Token, 3*bootstrap.DefaultParallel)
	for i := range tokens {
		tokens[i] = newToken("")
	}
	for _, err := range store.CreateAll(t.Context(), tokens, random(), nil) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if most := api.MostAtOnce(); most != bootstrap.DefaultParallel {
		t.Errorf("%d requests at once, want %d", most, bootstrap.DefaultParallel)
	}
}

func TestAnInterruptStopsWhatHasNotBegun(t *testing.T) {
	api, store := newStore(t)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	var once sync.Once
	api.Handle(func(http.ResponseWriter, *http.Request, apitest.Request) bool {
		once.Do(func() { cancel(interrupted) })
		return false
	})
	tokens := make([]*bootstrap.Token, 1000)
	for i := range tokens {
		tokens[i] = newToken("")
	}
	var unknown []*bootstrap.Token
	made := 0
	for i, err := range store.CreateAll(ctx, tokens, random(), nil) {
		var uncertain *bootstrap.UncertainError
		switch {
		case err == nil:
			made++
		case errors.As(err, &uncertain):
			unknown = append(unknown, tokens[i])
		case !errors.Is(err, interrupted):
			t.Errorf("token %d: error %v, want the cause of the interrupt", i, err)
		}
	}
	if made == 0 || made+len(unknown) > 2*bootstrap.DefaultParallel {
		t.Errorf("%d tokens were made and %d perhaps, want those that were under way", made, len(unknown))
	}
	for _, err := range store.UndoAll(ctx, unknown, time.Minute) {
		if err != nil && !errors.Is(err, bootstrap.ErrUnseen) {
			t.Error(err)
		}
	}
	if got := len(api.Names()); got != made {
		t.Errorf("the cluster has %d tokens, and %d are known", got, made)
	}
}

func TestUndoRemovesWhatCreateMade(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "ghijkl")
	tok := newToken("abcdef")
	if err := store.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	created := api.Secret("bootstrap-token-abcdef")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := undo(ctx, store, tok, time.Minute); err != nil {
		t.Fatal(err)
	}
	wantNames(t, api, "ghijkl")
	requests := api.Requests()
	wantRequests(t, requests, "POST secrets", "DELETE secrets/bootstrap-token-abcdef")
	var options metav1.DeleteOptions
	requests[1].Decode(t, &options)
	if p := options.Preconditions; p == nil || p.UID == nil || *p.UID != created.UID {
		t.Errorf("preconditions %v, want the Secret's UID", p)
	}
	if err := undo(t.Context(), store, tok, time.Minute); err != nil {
		t.Errorf("there is none any more, which is no error: %v", err)
	}
}

func TestUndoRemovesNothingElse(t *testing.T) {
	another := newToken("abcdef")
	another.Token.Secret = "ffffffffffffffff"
	describedOtherwise := newToken("abcdef")
	describedOtherwise.Description = "somebody else's"
	opaque := newToken("abcdef").Secret()
	opaque.Type = "Opaque"
	for name, other := range map[string]*corev1.Secret{
		"another secret part": another.Secret(),
		"other data":          describedOtherwise.Secret(),
		"another type":        opaque,
	} {
		t.Run("after an uncertain create: "+name, func(t *testing.T) {
			api, store := newStore(t)
			api.Put(other)
			if err := undo(t.Context(), store, newToken("abcdef"), time.Minute); err != nil {
				t.Error(err)
			}
			wantNames(t, api, "abcdef")
			wantRequests(t, api.Writes())
		})
	}
	t.Run("one that took the name since", func(t *testing.T) {
		api, store := newStore(t)
		tok := newToken("abcdef")
		if err := store.Create(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		api.Remove("bootstrap-token-abcdef")
		putTokens(api, "abcdef")
		if err := undo(t.Context(), store, tok, time.Minute); err != nil {
			t.Error(err)
		}
		wantNames(t, api, "abcdef")
	})
}

func TestUndoAfterAnUncertainCreate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		delay time.Duration // until it is carried out; less than 0 for never
		want  error
	}{
		"that came through":       {0, nil},
		"that comes through late": {500 * time.Millisecond, nil},
		"that did not":            {-1, bootstrap.ErrUnseen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, store := newStore(t)
			api.Handle(inTurn(http.MethodPost, func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				switch {
				case test.delay == 0:
					api.Serve(httptest.NewRecorder(), req)
				case test.delay > 0:
					time.AfterFunc(test.delay, func() { api.Serve(httptest.NewRecorder(), req) })
				}
				apitest.Cut()
				return true
			}))
			tok := newToken("abcdef")
			var uncertain *bootstrap.UncertainError
			if err := store.Create(t.Context(), tok); !errors.As(err, &uncertain) {
				t.Fatalf("error %v, want an uncertain one", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := undo(ctx, store, tok, time.Minute); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			wantNames(t, api)
		})
	}
}

func TestUndoTriesAgain(t *testing.T) {
	t.Parallel()
	api, store := newStore(t)
	tok := newToken("abcdef")
	if err := store.Create(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	api.Handle(inTurn(http.MethodDelete, cut, func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		apitest.Fail(w, req, apierrors.NewInternalError(errors.New("starting")))
		return true
	}, carriedOut(api, cut)))
	if err := undo(t.Context(), store, tok, time.Minute); err != nil {
		t.Error(err)
	}
	wantNames(t, api)
	if n := len(api.Writes()); n != 5 {
		t.Errorf("%d writes, want the create and four deletes", n)
	}
}

func TestUndoIsLessPatientAfterAnInterrupt(t *testing.T) {
	t.Parallel()
	api, store := newStore(t)
	api.Handle(func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		<-r.Context().Done()
		apitest.Cut()
		return true
	})
	undo := func(ctx context.Context) time.Duration {
		start := time.Now()
		if err := undo(ctx, store, newToken("abcdef"), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		return time.Since(start)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if took := undo(ctx); took < 5*time.Second || took > 10*time.Second {
		t.Errorf("it took %v, want the grace of a write", took)
	}
}

func TestUndoSaysThatItFailed(t *testing.T) {
	forbidden := func(method string) apitest.Hook {
		return func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			if req.Method != method {
				return false
			}
			apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "bootstrap-token-abcdef", errors.New("no")))
			return true
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		api, store := newStore(t)
		putTokens(api, "abcdef", "ghijkl")
		api.Handle(forbidden(method))
		errs := store.UndoAll(t.Context(), []*bootstrap.Token{newToken("abcdef"), newToken("ghijkl")}, time.Minute)
		if !apierrors.IsForbidden(errs[0]) || !apierrors.IsForbidden(errs[1]) {
			t.Errorf("%s forbidden: errors %v", method, errs)
		}
	}
}

func TestUndoIsBoundedInTime(t *testing.T) {
	api, store := newStore(t)
	stop := make(chan struct{})
	api.Handle(func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
		return true
	})
	defer close(stop)
	if err := undo(t.Context(), store, newToken("abcdef"), time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestListAsksForTokensOnlyAndInChunks(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, ids(5)...)
	tokens, err := store.ListAll(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, tokens, ids(5))
	requests := api.Requests()
	wantRequests(t, requests, "GET secrets", "GET secrets", "GET secrets")
	for i, want := range []string{"", apitest.Continue("bootstrap-token-id0001"), apitest.Continue("bootstrap-token-id0003")} {
		query := requests[i].Query
		if query.Get("fieldSelector") != "type="+tokenType || query.Get("limit") != "2" || query.Get("continue") != want {
			t.Errorf("request %d asks %v", i+1, query)
		}
		if !strings.HasPrefix(requests[i].Header.Get("Accept"), "application/vnd.kubernetes.protobuf") {
			t.Errorf("request %d accepts %q, want protobuf first", i+1, requests[i].Header.Get("Accept"))
		}
	}
}

func wantIDs(t *testing.T, tokens []*bootstrap.Token, want []string) {
	t.Helper()
	got := make([]string, len(tokens))
	for i, tok := range tokens {
		got[i] = tok.ID
	}
	if !slices.Equal(got, want) {
		t.Errorf("tokens %v, want %v", got, want)
	}
}

func TestListWithoutChunksAsksForNoLimit(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, ids(3)...)
	tokens, err := store.ListAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, tokens, ids(3))
	if requests := api.Requests(); len(requests) != 1 || requests[0].Query.Has("limit") {
		t.Errorf("%d requests, the first asks %v", len(requests), requests[0].Query)
	}
}

func TestListPassesOverOtherSecrets(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	opaque := newToken("ghijkl").Secret()
	opaque.Type = "Opaque"
	api.Put(opaque)
	// Some servers do not know the field selector.
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		req.Query.Del("fieldSelector")
		api.Serve(w, req)
		return true
	})
	tokens, err := store.ListAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, tokens, []string{"abcdef"})
}

func TestListReadsJSONToo(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		req.Header.Set("Accept", "application/json")
		api.Serve(w, req)
		return true
	})
	if tok := find(t, store, "abcdef"); tok.Token.Secret != secretPart {
		t.Error("the secret part is not the stored one's")
	}
}

func TestListStopsAtTheVisitorsError(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, ids(5)...)
	stop := errors.New("stop")
	visited := 0
	err := store.List(t.Context(), 2, func(*bootstrap.Token) error { visited++; return stop })
	if !errors.Is(err, stop) || visited != 1 || len(api.Requests()) != 1 {
		t.Errorf("error %v after %d tokens and %d requests", err, visited, len(api.Requests()))
	}
}

func TestListLosesAndRepeatsNothingWhereItExpires(t *testing.T) {
	// The third chunk finds that the server has forgotten the list, and that
	// it has changed since.
	gone := func(api *apitest.Server, withToken bool) apitest.Hook {
		var requests atomic.Int64
		return func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			if requests.Add(1) != 3 {
				return false
			}
			api.Remove("bootstrap-token-id0000") // was visited
			api.Remove("bootstrap-token-id0005") // was not
			putTokens(api, "id0001x"[:6], "id0006")
			status := apierrors.NewResourceExpired("The provided continue parameter is too old")
			if withToken {
				status.ErrStatus.Continue = apitest.Continue("bootstrap-token-id0003")
			}
			apitest.Fail(w, req, status)
			return true
		}
	}
	want := []string{"id0000", "id0001", "id0002", "id0003", "id0004", "id0006"}
	for name, withToken := range map[string]bool{"with a token to go on": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			api, store := newStore(t)
			putTokens(api, ids(6)...)
			api.Handle(gone(api, withToken))
			tokens, err := store.ListAll(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			wantIDs(t, tokens, want)
			fourth := api.Requests()[3].Query
			if withToken && fourth.Get("continue") != apitest.Continue("bootstrap-token-id0003") {
				t.Errorf("it goes on with %v", fourth)
			}
			if !withToken && (fourth.Has("continue") || fourth.Has("limit")) {
				t.Errorf("it starts again with %v, want all in one piece", fourth)
			}
		})
	}
}

func TestListFailsWhereItExpiresAtOnce(t *testing.T) {
	api, store := newStore(t)
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		apitest.Fail(w, req, apierrors.NewResourceExpired("gone"))
		return true
	})
	if _, err := store.ListAll(t.Context(), 2); !apierrors.IsResourceExpired(err) || len(api.Requests()) != 1 {
		t.Errorf("error %v after %d requests", err, len(api.Requests()))
	}
}

func TestListEndsWhereEveryChunkExpires(t *testing.T) {
	for name, offers := range map[string]bool{"and it offers to go on": true, "and it does not": false} {
		t.Run(name, func(t *testing.T) {
			api, store := newStore(t)
			putTokens(api, ids(6)...)
			api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				after := req.Query.Get("continue")
				if after == "" {
					return false
				}
				status := apierrors.NewResourceExpired("The provided continue parameter is too old")
				if offers {
					status.ErrStatus.Continue = after
				}
				apitest.Fail(w, req, status)
				return true
			})
			tokens, err := store.ListAll(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			wantIDs(t, tokens, ids(6))
			if n := len(api.Requests()); n > 6 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestGetChecksWhatThePersonGave(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	opaque := newToken("opaque").Secret()
	opaque.Type = "Opaque"
	api.Put(opaque)
	for name, wantErr := range map[string]func(error) bool{
		"abcdef":               nil,
		"abcdef." + secretPart: nil,
		"K10" + caHash + "::abcdef." + secretPart: nil,
		"secret/bootstrap-token-abcdef":           nil,
		"abcdef.ffffffffffffffff":                 func(err error) bool { return errors.Is(err, bootstrap.ErrOtherSecret) },
		"ghijkl":                                  apierrors.IsNotFound,
		"opaque": func(err error) bool {
			return err.Error() == `secret "bootstrap-token-opaque" is of type "Opaque", not a bootstrap token`
		},
		"opaque." + secretPart: func(err error) bool { return strings.Contains(err.Error(), "not a bootstrap token") },
	} {
		got, err := store.Get(t.Context(), refs(t, name)[0])
		switch {
		case wantErr == nil && (err != nil || got.ID != "abcdef"):
			t.Errorf("%v: error %v", refs(t, name)[0], err)
		case wantErr != nil && (err == nil || got != nil || !wantErr(err)):
			t.Errorf("%v: token %v, error %v", refs(t, name)[0], got, err)
		case err != nil && (strings.Contains(err.Error(), secretPart) || strings.Contains(err.Error(), "ffff")):
			t.Errorf("%v: the error holds a secret", refs(t, name)[0])
		}
	}
}

func TestFindGetsAFew(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, ids(63)...)
	tokens, errs := store.Find(t.Context(), refs(t, ids(63)...))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, tokens, ids(63))
	for _, request := range api.Requests() {
		if request.Path == apitest.SecretsPath {
			t.Fatal("all tokens were listed for a few")
		}
	}
}

// many names 64 tokens, of which 60 are there.
func many(t *testing.T, api *apitest.Server) []bootstrap.Ref {
	t.Helper()
	names := ids(64)
	putTokens(api, names[:60]...)
	opaque := newToken(names[60]).Secret()
	opaque.Type = "Opaque"
	api.Put(opaque)
	names[1] += "." + secretPart
	names[2] += ".ffffffffffffffff"
	return refs(t, names...)
}

func wantMany(t *testing.T, tokens []*bootstrap.Token, errs []error) {
	t.Helper()
	for i := range tokens {
		var ok bool
		switch err := errs[i]; {
		case i == 2:
			ok = errors.Is(err, bootstrap.ErrOtherSecret)
		case i == 60:
			ok = err != nil && strings.Contains(err.Error(), "not a bootstrap token")
		case i > 60:
			ok = apierrors.IsNotFound(err)
		default:
			ok = err == nil && tokens[i] != nil && tokens[i].ID == ids(64)[i]
		}
		if !ok || errs[i] != nil && tokens[i] != nil {
			t.Errorf("token %d: %v, error %v", i, tokens[i], errs[i])
		}
	}
}

func TestFindListsMany(t *testing.T) {
	api, store := newStore(t)
	tokens, errs := store.Find(t.Context(), many(t, api))
	wantMany(t, tokens, errs)
	// One list, and a look at what is not in it.
	if n := len(api.Requests()); n != 1+4 {
		t.Errorf("%d requests, want 5", n)
	}
}

func TestFindGetsManyWhereListIsForbidden(t *testing.T) {
	api, store := newStore(t)
	wanted := many(t, api)
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Path != apitest.SecretsPath {
			return false
		}
		apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "", errors.New("no")))
		return true
	})
	tokens, errs := store.Find(t.Context(), wanted)
	wantMany(t, tokens, errs)
}

func TestFindFailsOnceWhereTheServerDoes(t *testing.T) {
	api, store := newStore(t)
	wanted := many(t, api)
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		apitest.Fail(w, req, apierrors.NewUnauthorized("no"))
		return true
	})
	tokens, errs := store.Find(t.Context(), wanted)
	for i, err := range errs {
		if !apierrors.IsUnauthorized(err) || tokens[i] != nil {
			t.Fatalf("token %d: error %v", i, err)
		}
	}
	if n := len(api.Requests()); n != 1 {
		t.Errorf("%d requests, want 1: no other fares better", n)
	}
}

func TestDeleteTakesOnlyTheTokenThatWasFound(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	old := find(t, store, "abcdef")
	api.Remove("bootstrap-token-abcdef")
	putTokens(api, "abcdef")
	if err := store.Delete(t.Context(), old); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a Conflict: another token has that name now", err)
	}
	wantNames(t, api, "abcdef")
	if err := store.Delete(t.Context(), find(t, store, "abcdef")); err != nil {
		t.Error(err)
	}
	wantNames(t, api)
}

func TestDeleteAllTriesAll(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, ids(4)...)
	tokens, err := store.ListAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	api.Remove("bootstrap-token-id0001")
	steps := 0
	errs := store.DeleteAll(t.Context(), tokens, func(int) { steps++ })
	if errs[0] != nil || !apierrors.IsNotFound(errs[1]) || errs[2] != nil || errs[3] != nil || steps != 4 {
		t.Errorf("errors %v after %d steps, want one for the second of four", errs, steps)
	}
	wantNames(t, api)
}

// lost are ways in which the answer to a write is lost once.
func lost(api *apitest.Server) map[string][]apitest.Hook {
	return map[string][]apitest.Hook{
		"cut before it arrives":                     {cut},
		"carried out, and cut":                      {carriedOut(api, cut)},
		"asked to come again":                       {comeAgain},
		"carried out, and asked to come again":      {carriedOut(api, comeAgain)},
		"carried out, asked to come again, and cut": {carriedOut(api, comeAgain), cut},
		"cut twice": {cut, carriedOut(api, cut)},
	}
}

func TestDeleteWhoseAnswerIsLost(t *testing.T) {
	for name := range lost(nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, store := newStore(t)
			putTokens(api, "abcdef")
			tok := find(t, store, "abcdef")
			api.Handle(inTurn(http.MethodDelete, lost(api)[name]...))
			if err := store.Delete(t.Context(), tok); err != nil {
				t.Error(err)
			}
			wantNames(t, api)
		})
	}
}

func TestDeleteSaysWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]func(*apitest.Server) apitest.Hook{
		"every answer is lost": func(api *apitest.Server) apitest.Hook {
			return func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
				return req.Method == http.MethodDelete && carriedOut(api, cut)(w, r, req)
			}
		},
		"an answer is lost, and then it is forbidden": func(api *apitest.Server) apitest.Hook {
			return inTurn(http.MethodDelete, carriedOut(api, cut), forbid)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, store := newStore(t)
			putTokens(api, "abcdef")
			tok := find(t, store, "abcdef")
			api.Handle(hook(api))
			var uncertain *bootstrap.UncertainError
			if err := store.Delete(t.Context(), tok); !errors.As(err, &uncertain) {
				t.Errorf("error %T %v, want an uncertain one", err, err)
			}
		})
	}
}

// A token that took the name of one that was deleted must not pass for it.
func TestARepeatedDeleteSparesTheNextToken(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	tok := find(t, store, "abcdef")
	api.Handle(inTurn(http.MethodDelete, carriedOut(api, func(http.ResponseWriter, *http.Request, apitest.Request) bool {
		putTokens(api, "abcdef")
		apitest.Cut()
		return true
	})))
	if err := store.Delete(t.Context(), tok); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a Conflict: another token has that name now", err)
	}
	wantNames(t, api, "abcdef")
}

func TestDeleteUnchangedSparesWhatHasChanged(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef", "ghijkl")
	tokens, err := store.ListAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Extend(t.Context(), refs(t, "abcdef")[0], at(now.Add(48*time.Hour))); err != nil {
		t.Fatal(err)
	}
	errs := store.DeleteUnchanged(t.Context(), tokens, nil)
	if !apierrors.IsConflict(errs[0]) || errs[1] != nil {
		t.Errorf("errors %v, want a Conflict for the first", errs)
	}
	wantNames(t, api, "abcdef")
	// What is deleted by its name goes, changed or not.
	if err := errors.Join(store.DeleteAll(t.Context(), tokens[:1], nil)...); err != nil {
		t.Error(err)
	}
	wantNames(t, api)
}

func TestAnInterruptOfALookIsItsError(t *testing.T) {
	api, store := newStore(t)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	api.Handle(func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		cancel(interrupted)
		<-r.Context().Done()
		apitest.Cut()
		return true
	})
	if _, err := store.Extend(ctx, refs(t, "abcdef")[0], at(now)); !errors.Is(err, interrupted) {
		t.Errorf("error %v, want the interrupt", err)
	}
}

// at is an end that does not hang on any clock.
func at(t time.Time) bootstrap.End { return func() (time.Time, error) { return t, nil } }

func TestExtendPatchesWhatItHasSeen(t *testing.T) {
	for name, expires := range map[string]time.Time{
		"another end": now.Add(48 * time.Hour),
		"never":       {},
	} {
		t.Run(name, func(t *testing.T) {
			api, store := newStore(t)
			putTokens(api, "abcdef")
			before := api.Secret("bootstrap-token-abcdef")
			extended, err := store.Extend(t.Context(), refs(t, "abcdef."+secretPart)[0], at(expires))
			if err != nil {
				t.Fatal(err)
			}
			if !extended.Expires.Equal(expires) {
				t.Errorf("it ends at %v, want %v", extended.Expires, expires)
			}
			requests := api.Requests()
			wantRequests(t, requests, "GET secrets/bootstrap-token-abcdef", "PATCH secrets/bootstrap-token-abcdef")
			if contentType := requests[1].Header.Get("Content-Type"); contentType != "application/merge-patch+json" {
				t.Errorf("the patch is %q", contentType)
			}
			var expiration any
			if !expires.IsZero() {
				expiration = base64.StdEncoding.EncodeToString([]byte("2025-06-03T12:00:00Z"))
			}
			want, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"uid": before.UID, "resourceVersion": before.ResourceVersion},
				"data":     map[string]any{"expiration": expiration},
			})
			if err != nil {
				t.Fatal(err)
			}
			var got, wanted any
			if json.Unmarshal(requests[1].Body, &got) != nil || json.Unmarshal(want, &wanted) != nil || fmt.Sprint(got) != fmt.Sprint(wanted) {
				t.Errorf("patch %s, want %s", requests[1].Body, want)
			}
			if _, has := api.Secret("bootstrap-token-abcdef").Data["expiration"]; has == expires.IsZero() {
				t.Errorf("the Secret has an expiration: %v", has)
			}
		})
	}
}

func TestExtendLooksAgainAfterAConflict(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	api.Handle(answerFirst(http.MethodPatch, func(http.ResponseWriter, *http.Request, apitest.Request) bool {
		changed := api.Secret("bootstrap-token-abcdef")
		changed.Data["description"] = []byte("changed in between")
		api.Put(changed)
		return false
	}))
	extended, err := store.Extend(t.Context(), refs(t, "abcdef")[0], at(now))
	if err != nil {
		t.Fatal(err)
	}
	wantRequests(t, api.Requests(),
		"GET secrets/bootstrap-token-abcdef", "PATCH secrets/bootstrap-token-abcdef",
		"GET secrets/bootstrap-token-abcdef", "PATCH secrets/bootstrap-token-abcdef")
	if extended.Description != "changed in between" || !extended.Expires.Equal(now) {
		t.Errorf("description %q, ends %v: a change was lost", extended.Description, extended.Expires)
	}
}

func TestExtendNeverTouchesATokenThatTookTheName(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	another := newToken("abcdef")
	another.Token.Secret = "ffffffffffffffff"
	api.Handle(answerFirst(http.MethodPatch, func(http.ResponseWriter, *http.Request, apitest.Request) bool {
		api.Remove("bootstrap-token-abcdef")
		api.Put(another.Secret())
		return false
	}))
	if _, err := store.Extend(t.Context(), refs(t, "abcdef."+secretPart)[0], at(now)); !errors.Is(err, bootstrap.ErrOtherSecret) {
		t.Errorf("error %v, want %v", err, bootstrap.ErrOtherSecret)
	}
	if got := find(t, store, "abcdef"); !got.Expires.Equal(another.Expires) {
		t.Error("the other token was extended")
	}
}

func TestExtendGivesUpWhereEveryPatchConflicts(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef")
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method != http.MethodPatch {
			return false
		}
		apitest.Fail(w, req, apierrors.NewConflict(secretsResource, "bootstrap-token-abcdef", errors.New("changed")))
		return true
	})
	if _, err := store.Extend(t.Context(), refs(t, "abcdef")[0], at(now)); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a Conflict", err)
	}
	if n := len(api.Requests()); n < 4 || n > 20 {
		t.Errorf("%d requests", n)
	}
}

func TestExtendAllTriesAll(t *testing.T) {
	api, store := newStore(t)
	putTokens(api, "abcdef", "ghijkl")
	tokens, errs := store.ExtendAll(t.Context(), refs(t, "abcdef", "mnopqr", "ghijkl"), at(now))
	if errs[0] != nil || !apierrors.IsNotFound(errs[1]) || errs[2] != nil || tokens[1] != nil {
		t.Errorf("errors %v, want one for the second", errs)
	}
	wantIDs(t, []*bootstrap.Token{tokens[0], tokens[2]}, []string{"abcdef", "ghijkl"})
}

func TestExtendWhoseAnswerIsLost(t *testing.T) {
	for name := range lost(nil) {
		for end, expires := range map[string]time.Time{"an end": now.Add(48 * time.Hour), "no end": {}} {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				api, store := newStore(t)
				putTokens(api, "abcdef")
				api.Handle(inTurn(http.MethodPatch, lost(api)[name]...))
				extended, err := store.Extend(t.Context(), refs(t, "abcdef")[0], at(expires))
				if err != nil {
					t.Fatal(err)
				}
				if stored := find(t, store, "abcdef"); !extended.Expires.Equal(expires) || !stored.Expires.Equal(expires) {
					t.Errorf("it ends at %v and is said to end at %v, want %v", stored.Expires, extended.Expires, expires)
				}
			})
		}
	}
}

func TestExtendSaysWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	api, store := newStore(t)
	putTokens(api, "abcdef")
	var patched atomic.Bool
	api.Handle(func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodPatch {
			patched.Store(true)
			return carriedOut(api, cut)(w, r, req)
		}
		if patched.Load() {
			apitest.Fail(w, req, apierrors.NewInternalError(errors.New("no")))
			return true
		}
		return false
	})
	var uncertain *bootstrap.UncertainError
	if _, err := store.Extend(t.Context(), refs(t, "abcdef")[0], at(now)); !errors.As(err, &uncertain) {
		t.Errorf("error %T %v, want an uncertain one", err, err)
	}
}
