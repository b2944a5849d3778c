package rotation_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestPreflightAsksEachServer(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		s := newSite(t, 2)
		s.Force = true // no help
		s.servers[i].refusal = hint.New("refused", "use another")
		wantError(t, s.Preflight(t.Context()), s.Servers[i].String()+": refused", "use another")
	}
	s := newSite(t, 1)
	s.New.CAHash = otherHash
	wantError(t, s.Preflight(t.Context()), "the new token has the CA hash of another cluster", "")
}

func TestTheRecordOfAnEarlierRotationStopsTheNext(t *testing.T) {
	t.Parallel()
	const same, other = "https://10.0.0.1:6443", "https://10.9.9.9:6443"
	for name, test := range map[string]struct {
		state, server string
		passes        bool
	}{
		"rotated through another server":  {"rotated", other, false},
		"unknown through the same server": {"unknown", same, true},
		"started through the same server": {"started", same, false},
		"a malformed record":              {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1)
			s.leave(t, test.state, test.server)
			text := "the rotation through " + test.server + " of " + longAgo
			if !test.passes {
				wantError(t, s.Preflight(t.Context()), text+" is not finished", "--force")
				s.Force = true
			}
			if s.preflight(t); len(s.warnings) != 1 || !strings.Contains(s.warnings[0], text) {
				t.Errorf("got warnings %q", s.warnings)
			}
		})
	}
}

func TestPreflightRefusesALoadBalancer(t *testing.T) {
	t.Parallel()
	two, elsewhere := []string{"10.0.0.1", "10.0.0.2"}, []string{"10.1.0.1", "10.1.0.2"}
	for name, test := range map[string]struct {
		nodes   []string // nil if they cannot be listed
		remote  string   // empty behind a proxy
		passes  bool
		warning string // or the error
	}{
		"a node":                   {two, "10.0.0.1", true, "1 of the cluster's 2 servers are not checked"},
		"a name of a node":         {elsewhere, "10.1.0.2", true, "are not checked"},
		"a tunnel of this machine": {elsewhere, "127.0.0.1", true, "are not checked"},
		"a load balancer":          {elsewhere, "10.0.0.1", false, "is none of the cluster's 2 servers"},
		"a proxy":                  {elsewhere, "", false, "is none of the cluster's 2 servers"},
		"a proxy to a node":        {two, "", true, "are not checked"},
		"it is not known":          {nil, "10.0.0.1", true, "the nodes cannot be listed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1)
			s.servers[0].remote, _ = netip.ParseAddr(test.remote)
			if test.nodes == nil {
				s.refuse("list", "nodes", "", errDenied)
			}
			for _, address := range test.nodes {
				_ = s.api.Tracker().Add(&corev1.Node{
					ObjectMeta: metav1.ObjectMeta{Name: address, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}},
					Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
				})
			}
			if !test.passes {
				wantError(t, s.Preflight(t.Context()), test.warning, "--force")
				s.Force = true
			}
			if s.preflight(t); !strings.Contains(strings.Join(s.warnings, "\n"), test.warning) {
				t.Errorf("got warnings %q, want %q", s.warnings, test.warning)
			}
		})
	}
}

func TestForceRotatesWithoutARecord(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.refuse("get", "configmaps", rotation.RecordName, errDenied)
	wantError(t, s.Preflight(t.Context()), "a record of the rotation cannot be kept: denied", "--force")
	s.Force = true
	r := s.preflight(t)
	outcome, err := r.Rotate(t.Context())
	err = errors.Join(err, r.Finish(t.Context(), outcome))
	if err != nil || outcome != supervisor.Rotated || s.record() != nil || len(s.warnings) != 1 {
		t.Errorf("got %s, %v, record %v and warnings %q", outcome, err, s.record(), s.warnings)
	}
}

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
			if s.record()["state"] != earlier || r.New != s.New.WithCAHash(hash) {
				t.Errorf("after the preflight the record is %q, and the rotation %+v", s.record()["state"], r)
			}
			s.servers[0].rotate = func(context.Context) (supervisor.Outcome, error) {
				if data := s.record(); data["state"] != "started" || data["server"] != through || data["started"] == longAgo {
					t.Errorf("when the server is told, the record is %v", data)
				}
				return outcome, nil
			}
			got, _ := r.Rotate(t.Context())
			if err := r.Finish(t.Context(), got); err != nil || got != outcome || s.record()["state"] != cmp.Or(want, earlier) {
				t.Errorf("got %s, %v, and the record is %q", got, err, s.record()["state"])
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
	_, _ = s.preflight(t).Rotate(t.Context())
	record, err := rotation.FindRecord(t.Context(), s.api.CoreV1().ConfigMaps("kube-system"))
	if err = errors.Join(err, record.Remove(t.Context())); err != nil {
		t.Fatal(err)
	}
	actions := s.api.Actions()
	update := actions[len(actions)-3].(clienttesting.UpdateAction).GetObject().(*corev1.ConfigMap)
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
			if err := r.Finish(ctx, outcome); err != nil || s.record()["state"] != string(want) {
				t.Errorf("the record is %q, %v", s.record()["state"], err)
			}
		})
	}
}
