package rotation_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestOneServerIsToldAndTheRecordIsThereBefore(t *testing.T) {
	t.Parallel()
	const through = "https://10.0.0.1:6443"
	for outcome, want := range map[supervisor.Outcome]string{
		supervisor.Rotated: "rotated", supervisor.Unknown: "unknown", supervisor.NotRotated: "",
	} {
		for _, earlier := range []string{"", "unknown"} {
			s := newSite(t, 2)
			if earlier != "" {
				s.leave(t, earlier, through)
			}
			r := s.preflight(t)
			if s.state() != earlier || r.New != s.New.WithCAHash(hash) {
				t.Errorf("after the preflight the record is %q, and the rotation %+v", s.state(), r)
			}
			s.servers[0].rotate = func(context.Context) (supervisor.Outcome, error) {
				if data := s.record().Data; data["state"] != "started" || data["server"] != through || data["started"] == longAgo {
					t.Errorf("when the server is told, the record is %v", data)
				}
				return outcome, nil
			}
			got, _ := r.Rotate(t.Context())
			if err := r.Finish(t.Context(), got); err != nil || got != outcome || s.state() != cmp.Or(want, earlier) {
				t.Errorf("got %s, %v, and the record is %q", got, err, s.state())
			}
			if !slices.Equal(s.servers[0].told, []string{strong}) || len(s.servers[1].told) > 0 {
				t.Error("another server was told, or another token than the new one")
			}
			if text := fmt.Sprint(s.record()); strings.Contains(text, strong) || strings.Contains(text, current) {
				t.Error("the record holds a token")
			}
		}
	}
}

// TestARotationDoesNotTouchTheRecordOfAnother has another rotation write its record after
// the preflight, or after the server was told.
func TestARotationDoesNotTouchTheRecordOfAnother(t *testing.T) {
	t.Parallel()
	const meanwhile = "another rotation has begun or ended meanwhile"
	conflict := apierrors.NewConflict(configMaps.GroupResource(), rotation.RecordName, nil)
	for earlier, verb := range map[string]string{"": "create", "unknown": "update"} {
		s := newSite(t, 1)
		s.Force = true // no help
		if earlier != "" {
			s.leave(t, earlier, "https://10.0.0.1:6443")
		}
		before, late := s.preflight(t), s.preflight(t)
		_, _ = late.Rotate(t.Context())
		s.refuse("*", "configmaps", rotation.RecordName, conflict)
		outcome, err := before.Rotate(t.Context())
		if wantError(t, err, meanwhile, "wait for it"); outcome != supervisor.NotRotated || len(s.servers[0].told) != 1 {
			t.Errorf("%s: got %s, or the server was told a token", verb, outcome)
		}
		if err := before.Finish(t.Context(), outcome); err != nil {
			t.Errorf("%s: a record that was not written is taken back: %v", verb, err)
		}
		wantError(t, late.Finish(t.Context(), supervisor.Rotated), meanwhile, "")
	}
}

func TestTheRecordIsChangedAsItWasSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.leave(t, "unknown", "https://10.0.0.1:6443")
	records := rotation.NewRecords(s.api.CoreV1().ConfigMaps("kube-system"))
	record, err := records.Get(t.Context())
	if err = errors.Join(err, records.Save(t.Context(), record), records.Remove(t.Context(), record)); err != nil {
		t.Fatal(err)
	}
	actions := s.api.Actions()
	update := actions[len(actions)-2].(clienttesting.UpdateAction).GetObject().(*corev1.ConfigMap)
	seen := actions[len(actions)-1].(clienttesting.DeleteActionImpl).DeleteOptions.Preconditions
	if update.ResourceVersion != "7" || *seen.ResourceVersion != "7" || *seen.UID != "uid" {
		t.Errorf("got %s and %+v", update.ResourceVersion, seen)
	}
}

func TestAnInterruptBeforeTheRequestLeavesEverythingAsItIs(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	r := s.preflight(t)
	ctx, interrupt := context.WithCancel(t.Context())
	s.api.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		interrupt()
		return false, nil, nil
	})
	outcome, err := r.Rotate(ctx)
	if outcome != supervisor.NotRotated || !errors.Is(err, context.Canceled) || len(s.servers[0].told) > 0 {
		t.Errorf("got %s, %v, or the server was told a new token", outcome, err)
	}
	if err := r.Finish(ctx, outcome); err != nil || s.record() != nil {
		t.Errorf("the record is %v, %v", s.record(), err)
	}
}

func TestAnInterruptWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	for answer, want := range map[time.Duration]supervisor.Outcome{time.Second: supervisor.Rotated, time.Hour: supervisor.Unknown} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 1)
			r := s.preflight(t)
			ctx, interrupt := context.WithCancel(t.Context())
			s.servers[0].rotate = func(ctx context.Context) (supervisor.Outcome, error) {
				interrupt()
				select {
				case <-time.After(answer):
					return supervisor.Rotated, nil
				case <-ctx.Done():
					return supervisor.Unknown, ctx.Err()
				}
			}
			start := time.Now()
			outcome, err := r.Rotate(ctx)
			if waited := time.Since(start); outcome != want || waited != min(answer, bootstrap.Grace) {
				t.Errorf("got %s, %v after %s", outcome, err, waited)
			}
			if err := r.Finish(ctx, outcome); err != nil || s.state() != string(want) {
				t.Errorf("the record is %q, %v", s.state(), err)
			}
		})
	}
}
