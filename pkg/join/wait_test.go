package join_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
)

// nodes is client-go's fake as a cluster of nodes.
type nodes struct{ corev1client.NodeInterface }

// IsWatchListSemanticsUnSupported tells a reflector that the fake has no watch lists.
func (nodes) IsWatchListSemanticsUnSupported() bool { return true }

// event is a change of the nodes.
type event = func(context.Context, nodes) error

// node returns a node whose condition Ready has that status.
func node(name string, uid types.UID, ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid}}
	n.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: ready, Message: "cni plugin not initialized"},
	}
	return n
}

func add(name string, ready corev1.ConditionStatus) event {
	return func(ctx context.Context, c nodes) error {
		_, err := c.Create(ctx, node(name, "2", ready), metav1.CreateOptions{})
		return err
	}
}

func update(name string, uid types.UID) event {
	return func(ctx context.Context, c nodes) error {
		_, err := c.UpdateStatus(ctx, node(name, uid, "True"), metav1.UpdateOptions{})
		return err
	}
}

func remove(name string) event {
	return func(ctx context.Context, c nodes) error { return c.Delete(ctx, name, metav1.DeleteOptions{}) }
}

// all returns the event of all the events; of none, it changes nothing.
func all(events ...event) event {
	return func(ctx context.Context, c nodes) error {
		for _, event := range events {
			if err := event(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestWait(t *testing.T) {
	const existing = " " + string(join.Existing)
	for name, test := range map[string]struct {
		goal    join.Goal
		events  []event // the first, and then one after each report; nil ends the wait
		reports string
		seen    string
	}{
		"three nodes, one of which comes late": {
			join.Goal{Count: 3}, []event{add("c", "True"), all(update("c", "2"), add("b", "True")), add("a", "False"), update("a", "2")},
			"c Ready, b Ready, a registered, a Ready", "a Ready, b Ready, c Ready",
		},
		"a node that is deleted does not count": {
			join.Goal{Count: 1}, []event{add("a", "False"), remove("a"), add("b", "True")},
			"a registered, a deleted, b Ready", "a deleted, b Ready",
		},
		"an old node that becomes Ready does not count": {
			join.Goal{Count: 1}, []event{all(update("old", "1"), add("a", "True"))},
			"a Ready", "a Ready",
		},
		"the named node": {
			join.Goal{Name: "b", Count: 1}, []event{add("a", "True"), add("b", "True")},
			"a Ready, b Ready", "b Ready",
		},
		"a named node that was there before and becomes Ready": {
			join.Goal{Name: "old"}, []event{all(), update("old", "1")},
			"old" + existing + ", old Ready", "old Ready",
		},
		"a named node that was Ready before and is made anew": {
			join.Goal{Name: "ready"}, []event{all(), all(remove("ready"), add("ready", "False")), update("ready", "2")},
			"ready" + existing + ", ready registered, ready Ready", "ready Ready",
		},
		"an end before it is Ready": {
			join.Goal{Count: 1}, []event{add("a", "False"), nil},
			"a registered", "a registered: cni plugin not initialized",
		},
		"an end before the named node has joined again": {
			join.Goal{Name: "ready"}, []event{all(), add("z", "True"), nil},
			"ready" + existing + ", z Ready", "ready" + existing,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := nodes{fake.NewClientset(node("old", "1", "False"), node("ready", "1", "True")).CoreV1().Nodes()}
			ctx, cancel := context.WithCancel(t.Context())
			waiter, err := join.NewWaiter(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			var reports []string
			next := func() {
				switch i := len(reports); {
				case i == len(test.events):
				case test.events[i] == nil:
					cancel()
				default:
					if err := test.events[i](t.Context(), c); err != nil {
						t.Error(err)
					}
				}
			}
			next()
			got, err := waiter.Wait(ctx, test.goal, func(n join.Node) {
				reports = append(reports, n.Name+" "+string(n.State))
				next()
			})
			var seen []string
			for _, n := range got {
				seen = append(seen, strings.TrimSuffix(n.Name+" "+string(n.State)+": "+n.Reason, ": "))
			}
			if strings.Join(reports, ", ") != test.reports || strings.Join(seen, ", ") != test.seen || !errors.Is(err, context.Cause(ctx)) {
				t.Errorf("got %q (%v), want %q; the reports are %q, want %q", seen, err, test.seen, reports, test.reports)
			}
		})
	}
}

func TestAMissingPermissionToWatchIsSeenBeforeTheWait(t *testing.T) {
	clients := fake.NewClientset()
	clients.PrependWatchReactor("nodes", func(clienttesting.Action) (bool, watch.Interface, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("nodes"), "", errors.New("watch"))
	})
	if _, err := join.NewWaiter(t.Context(), clients.CoreV1().Nodes()); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}
