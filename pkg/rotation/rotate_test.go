package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestOneServerIsToldAndTheRecordIsThereBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	plan := s.preflight(t)
	if s.record() != nil || len(plan.Warnings) > 0 || plan.Token != s.New.WithCAHash(hash) {
		t.Errorf("after the preflight there is record %v, and plan %+v", s.record(), plan)
	}
	s.servers[0].rotate = func(context.Context) supervisor.Rotation {
		if data := s.record().Data; data["state"] != "started" || data["server"] != "https://10.0.0.1:6443" || data["started"] == "" {
			t.Errorf("when the server is told, the record is %v", data)
		}
		return supervisor.Rotation{Outcome: supervisor.Rotated}
	}
	got := plan.Rotate(t.Context())
	if err := plan.Finish(t.Context(), got.Outcome); err != nil || got.Outcome != supervisor.Rotated {
		t.Errorf("got %+v, %v", got, err)
	}
	if !slices.Equal(s.servers[0].told, []string{strong}) || len(s.servers[1].told) > 0 {
		t.Error("another server was told, or another token than the new one")
	}
	record := s.record().Data
	if record["state"] != "rotated" || !strings.Contains(record["about"], "verify --all-servers") {
		t.Errorf("the record is %v", record)
	}
	if text := fmt.Sprint(record); strings.Contains(text, strong) || strings.Contains(text, current) {
		t.Error("the record holds a token")
	}
}

// TestNoSecondRotationUntilTheRecordIsRemoved has the first one end in each way
// that may have changed the token.
func TestNoSecondRotationUntilTheRecordIsRemoved(t *testing.T) {
	t.Parallel()
	const killed supervisor.Outcome = "started" // Finish is not called
	for _, outcome := range []supervisor.Outcome{supervisor.Rotated, supervisor.Unknown, killed} {
		s := newSite(t, 2)
		s.servers[0].rotate = ends(outcome)
		plan := s.preflight(t)
		plan.Rotate(t.Context())
		if outcome != killed && plan.Finish(t.Context(), outcome) != nil || s.state() != string(outcome) {
			t.Errorf("%s: the record is %q", outcome, s.state())
		}
		slices.Reverse(s.Servers)
		_, err := s.Preflight(t.Context())
		wantError(t, err, "the rotation through https://10.0.0.1:6443", "--force")

		// As verify does once every server accepts the new token alone.
		record, err := s.records.Get(t.Context())
		if err = errors.Join(err, s.records.Remove(t.Context(), record)); err != nil {
			t.Error(err)
		}
		s.preflight(t)
	}
}

func TestTheRecordOfSomebodyElseStays(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	plan := s.preflight(t)
	plan.Rotate(t.Context())
	mine, err := s.records.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	theirs := *mine
	theirs.State = "theirs"
	if err := s.records.Save(t.Context(), &theirs); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"verify": s.records.Remove(t.Context(), mine), "finish": plan.Finish(t.Context(), supervisor.Rotated), "take back": plan.Finish(t.Context(), supervisor.NotRotated),
	} {
		if !isConflict(err) || s.state() != "theirs" {
			t.Errorf("%s: got %v and record %q, want a conflict", name, err, s.state())
		}
	}
}

func TestARotationThatCameToNothingTakesItsRecordBack(t *testing.T) {
	t.Parallel()
	for _, earlier := range []string{"", "unknown"} {
		s := newSite(t, 1)
		if earlier != "" {
			s.leave(t, earlier, "https://10.0.0.1:6443")
		}
		s.servers[0].rotate = ends(supervisor.NotRotated)
		plan := s.preflight(t)
		if err := plan.Finish(t.Context(), plan.Rotate(t.Context()).Outcome); err != nil {
			t.Error(err)
		}
		if s.state() != earlier || earlier != "" && s.record().Data["started"] != longAgo {
			t.Errorf("the record was %q, and is %v", earlier, s.record())
		}
	}
}

// isConflict tells the error for a record that somebody else has changed.
func isConflict(err error) bool {
	return apierrors.IsConflict(err) || err != nil && strings.Contains(err.Error(), "another rotation has begun or ended meanwhile")
}

func TestNothingIsSentWithoutTheRecord(t *testing.T) {
	t.Parallel()
	for name, earlier := range map[string]bool{"which cannot be created": false, "which cannot be updated": true} {
		s := newSite(t, 1)
		s.Force = true // no help
		if earlier {
			s.leave(t, "unknown", "https://10.0.0.1:6443")
		}
		plan := s.preflight(t)
		s.preflight(t).Rotate(t.Context()) // another one begins
		got := plan.Rotate(t.Context())
		if told := len(s.servers[0].told); got.Outcome != supervisor.NotRotated || !isConflict(got.Err) || told != 1 {
			t.Errorf("%s: got %+v, and the server was told %d tokens", name, got, told)
		}
		if err := plan.Finish(t.Context(), got.Outcome); err != nil || s.state() != "started" {
			t.Errorf("%s: the record is %q, %v", name, s.state(), err)
		}
	}
}

func TestAnInterruptBeforeTheRequestLeavesEverythingAsItIs(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	plan := s.preflight(t)
	ctx, interrupt := context.WithCancel(t.Context())
	s.api.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		interrupt()
		return false, nil, nil
	})
	got := plan.Rotate(ctx)
	if got.Outcome != supervisor.NotRotated || !errors.Is(got.Err, context.Canceled) || len(s.servers[0].told) > 0 {
		t.Errorf("got %+v, or the server was told a new token", got)
	}
	if err := plan.Finish(ctx, got.Outcome); err != nil || s.record() != nil {
		t.Errorf("the record is %v, %v", s.record(), err)
	}
}

func TestAnInterruptWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	for answer, want := range map[time.Duration]supervisor.Outcome{time.Second: supervisor.Rotated, time.Hour: supervisor.Unknown} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 1)
			plan := s.preflight(t)
			ctx, interrupt := context.WithCancel(t.Context())
			s.servers[0].rotate = func(ctx context.Context) supervisor.Rotation {
				interrupt()
				select {
				case <-time.After(answer):
					return supervisor.Rotation{Outcome: supervisor.Rotated}
				case <-ctx.Done():
					return supervisor.Rotation{Outcome: supervisor.Unknown, Err: ctx.Err()}
				}
			}
			start := time.Now()
			got := plan.Rotate(ctx)
			if waited := time.Since(start); got.Outcome != want || waited != min(answer, 5*time.Second) {
				t.Errorf("got %+v after %s", got, waited)
			}
			if err := plan.Finish(ctx, got.Outcome); err != nil || s.state() != string(want) {
				t.Errorf("the record is %q, %v", s.state(), err)
			}
		})
	}
}
