package cluster_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

const (
	oldPassword = token.Secret("the-password-before-the-rotation")
	newPassword = token.Secret("the-password-after-the-rotation")
)

var rotationStart = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func newRecord(t *testing.T) cluster.Rotation {
	t.Helper()
	mark, err := cluster.NewMark(rand.Reader, oldPassword, newPassword)
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Rotation{
		State: cluster.RotationStarted, Server: "https://10.0.0.1:6443", CAHash: strings.Repeat("a", 64),
		Started: rotationStart, By: "jane", Mark: mark,
	}
}

// visible are the fields that users of the package see.
type visible struct {
	state             cluster.RotationState
	server, caHash    string
	started, finished time.Time
	by, mark          string
}

func see(r cluster.Rotation) visible {
	return visible{r.State, r.Server, r.CAHash, r.Started, r.Finished, r.By, r.Mark}
}

func TestRotationRecordFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	store := cluster.NewRotationStore(api.ConfigMaps(t))
	if r, err := store.Get(t.Context()); err != nil || r != nil {
		t.Fatalf("before there is one: got %+v, %v", r, err)
	}
	record := newRecord(t)
	if err := store.TryBegin(t.Context(), record, nil); err != nil {
		t.Fatal(err)
	}
	if len(api.Writes()) != 0 || api.ConfigMap(cluster.RotationRecord) != nil {
		t.Fatal("the dry run has left a record")
	}
	begun, err := store.Begin(t.Context(), record, nil)
	if err != nil {
		t.Fatal(err)
	}
	finished, err := store.Finish(t.Context(), begun, cluster.RotationDone, rotationStart.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	want := record
	want.State, want.Finished = cluster.RotationDone, rotationStart.Add(time.Second)
	got, err := store.Get(t.Context())
	if err != nil || see(*got) != see(want) || see(*finished) != see(want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if err := store.Remove(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if api.ConfigMap(cluster.RotationRecord) != nil {
		t.Error("the record is still there")
	}
	if err := store.Remove(t.Context(), got); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	var sent []string
	for _, request := range api.Writes() {
		sent = append(sent, request.String())
	}
	if got, want := strings.Join(sent, ", "), "POST configmaps, PUT configmaps/k3s-token-rotation, DELETE configmaps/k3s-token-rotation, DELETE configmaps/k3s-token-rotation"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

func TestRotationRecordHoldsNoSecret(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	if _, err := cluster.NewRotationStore(api.ConfigMaps(t)).Begin(t.Context(), newRecord(t), nil); err != nil {
		t.Fatal(err)
	}
	for _, request := range api.Requests() {
		for _, secret := range []token.Secret{oldPassword, newPassword} {
			if bytes.Contains(request.Body, []byte(secret.Reveal())) {
				t.Errorf("%s holds a password", request)
			}
		}
	}
}

func TestOneOfTwoRotationsBegins(t *testing.T) {
	t.Parallel()
	for name, earlier := range map[string]bool{"without a record": false, "with an earlier record": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := apitest.New(t)
			store := cluster.NewRotationStore(api.ConfigMaps(t))
			var previous *cluster.Rotation
			if earlier {
				var err error
				if previous, err = store.Begin(t.Context(), newRecord(t), nil); err != nil {
					t.Fatal(err)
				}
			}
			const rivals = 8
			errs := make([]error, rivals)
			records := make([]cluster.Rotation, rivals)
			for i := range records {
				records[i] = newRecord(t)
			}
			var running sync.WaitGroup
			for i := range rivals {
				running.Go(func() { _, errs[i] = store.Begin(t.Context(), records[i], previous) })
			}
			running.Wait()
			begun := 0
			for _, err := range errs {
				var conflict *cluster.RotationConflictError
				switch {
				case err == nil:
					begun++
				case !errors.As(err, &conflict):
					t.Errorf("got %v, want a conflict", err)
				}
			}
			if begun != 1 {
				t.Errorf("%d of %d rotations have begun, want one", begun, rivals)
			}
		})
	}
}

func TestRotationRecordOfSomebodyElseStays(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	store := cluster.NewRotationStore(api.ConfigMaps(t))
	mine, err := store.Begin(t.Context(), newRecord(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := store.Begin(t.Context(), newRecord(t), mine)
	if err != nil {
		t.Fatal(err)
	}
	var conflict *cluster.RotationConflictError
	if _, err := store.Finish(t.Context(), mine, cluster.RotationDone, rotationStart); !errors.As(err, &conflict) {
		t.Errorf("finish: got %v, want a conflict", err)
	}
	if err := store.Remove(t.Context(), mine); !errors.As(err, &conflict) {
		t.Errorf("remove: got %v, want a conflict", err)
	}
	if got, err := store.Get(t.Context()); err != nil || see(*got) != see(*theirs) {
		t.Errorf("got %+v, %v, want theirs", got, err)
	}
	if err := store.Remove(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	// A new one under the same name is not the one that was seen.
	if _, err := store.Begin(t.Context(), newRecord(t), nil); err != nil {
		t.Fatal(err)
	}
	if err := store.Remove(t.Context(), theirs); !errors.As(err, &conflict) {
		t.Errorf("remove a new one: got %v, want a conflict", err)
	}
}

func TestRotationRecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	api.SetConfigMap(cluster.RotationRecord, map[string]string{"started": "yesterday", "mark": "zz"})
	got, err := cluster.NewRotationStore(api.ConfigMaps(t)).Get(t.Context())
	if err != nil || !got.Started.IsZero() || got.Server != "" || got.IsNew(newPassword) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRotationStorePassesErrorsOn(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		apitest.Reply(w, req, http.StatusForbidden, &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "no"})
		return true
	})
	store := cluster.NewRotationStore(api.ConfigMaps(t))
	if _, err := store.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("get: %v", err)
	}
	if _, err := store.Begin(t.Context(), newRecord(t), nil); err == nil {
		t.Error("begin: no error")
	}
	if err := store.Remove(t.Context(), &cluster.Rotation{}); err == nil {
		t.Error("remove: no error")
	}
}

func TestMarkTellsTheNewPasswordFromTheOld(t *testing.T) {
	t.Parallel()
	ones := 0
	for range 200 {
		r := newRecord(t)
		if !r.IsNew(newPassword) || r.IsNew(oldPassword) {
			t.Fatal("the mark does not tell")
		}
		if r.IsNew("another password altogether") {
			ones++
		}
	}
	// Of other passwords it tells nothing: half of all guesses pass.
	if ones < 60 || ones > 140 {
		t.Errorf("%d of 200 marks fit another password, want about half", ones)
	}
	if (&cluster.Rotation{}).IsNew(newPassword) || (&cluster.Rotation{Mark: "abcd"}).IsNew(newPassword) {
		t.Error("a record without a mark knows the new password")
	}
	if _, err := cluster.NewMark(rand.Reader, oldPassword, oldPassword); err == nil {
		t.Error("the same password twice: no error")
	}
	if _, err := cluster.NewMark(bytes.NewReader(nil), oldPassword, newPassword); err == nil {
		t.Error("no randomness: no error")
	}
	if _, err := cluster.NewMark(always(0), oldPassword, newPassword); err != nil && !strings.Contains(err.Error(), "broken") {
		t.Errorf("the same bytes again and again: %v", err)
	}
}

// always is a source of one byte.
type always byte

func (a always) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(a)
	}
	return len(p), nil
}

func TestFetchUser(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	user, err := cluster.FetchUser(t.Context(), api.Client(t))
	if err != nil || user != apitest.User {
		t.Errorf("got %q, %v, want %q", user, err, apitest.User)
	}
}
