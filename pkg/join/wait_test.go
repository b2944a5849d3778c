package join_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
)

// cluster is client-go's fake as a cluster of nodes.
type cluster struct {
	*testing.T
	*fake.Clientset
	corev1client.NodeInterface
	cancel func()
}

func newCluster(t *testing.T, nodes ...*corev1.Node) cluster {
	clients := fake.NewClientset()
	c := cluster{T: t, Clientset: clients, NodeInterface: clients.CoreV1().Nodes()}
	for _, n := range nodes {
		c.add(n)
	}
	return c
}

// IsWatchListSemanticsUnSupported is for the reflector, which finds the method of
// the Clientset as well as that of the NodeInterface otherwise.
func (cluster) IsWatchListSemanticsUnSupported() bool { return true }

// node returns a node whose condition Ready has that status since a time in hours.
func node(name, uid string, ready corev1.ConditionStatus, since int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
	n.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: ready, Message: "cni plugin not initialized",
		LastTransitionTime: metav1.NewTime(time.Unix(int64(since)*3600, 0)),
	}}
	return n
}

func (c cluster) add(n *corev1.Node) {
	if _, err := c.Create(context.Background(), n, metav1.CreateOptions{}); err != nil {
		c.Error(err)
	}
}

func (c cluster) update(n *corev1.Node) {
	if _, err := c.UpdateStatus(context.Background(), n, metav1.UpdateOptions{}); err != nil {
		c.Error(err)
	}
}

func (c cluster) remove(name string) {
	if err := c.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		c.Error(err)
	}
}

// end ends the wait.
func (c cluster) end() { c.cancel() }

func existing(name string) string { return name + " " + string(join.Existing) }

func TestWait(t *testing.T) {
	type event = func(cluster)
	add := func(name string, ready corev1.ConditionStatus) event {
		return func(c cluster) { c.add(node(name, "2", ready, 2)) }
	}
	update := func(name, uid string) event {
		return func(c cluster) { c.update(node(name, uid, "True", 3)) }
	}
	for name, test := range map[string]struct {
		goal    join.Goal
		events  []event // the first, and then one after each report
		reports string
		seen    string
	}{
		"a node that registers and becomes Ready": {
			join.Goal{Count: 1}, []event{add("a", "False"), update("a", "2")},
			"a registered, a Ready", "a Ready",
		},
		"three nodes, one of which comes late": {
			join.Goal{Count: 3}, []event{add("c", "True"), add("b", "True"), add("a", "False"), update("a", "2")},
			"c Ready, b Ready, a registered, a Ready", "a Ready, b Ready, c Ready",
		},
		"a node that is deleted does not count": {
			join.Goal{Count: 1}, []event{add("a", "False"), func(c cluster) { c.remove("a") }, add("b", "True")},
			"a registered, a deleted, b Ready", "a deleted, b Ready",
		},
		"an old node that becomes Ready does not count": {
			join.Goal{Count: 1}, []event{func(c cluster) { update("old", "1")(c); add("a", "True")(c) }},
			"a Ready", "a Ready",
		},
		"the named node": {
			join.Goal{Name: "b", Count: 1}, []event{add("a", "True"), add("b", "True")},
			"a Ready, b Ready", "b Ready",
		},
		"a named node that was there before and becomes Ready": {
			join.Goal{Name: "old"}, []event{nil, update("old", "1")},
			existing("old") + ", old Ready", "old Ready",
		},
		"a named node that was Ready before and is made anew": {
			join.Goal{Name: "ready"}, []event{nil, func(c cluster) { c.remove("ready"); add("ready", "False")(c) }, update("ready", "2")},
			existing("ready") + ", ready registered, ready Ready", "ready Ready",
		},
		"an end before a node comes": {join.Goal{Count: 1}, []event{cluster.end}, "", ""},
		"an end before it is Ready": {
			join.Goal{Count: 1}, []event{add("a", "False"), cluster.end},
			"a registered", "a registered: cni plugin not initialized",
		},
		"an end before the named node has joined again": {
			join.Goal{Name: "ready"}, []event{nil, cluster.end}, existing("ready"), existing("ready"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, node("old", "1", "False", 1), node("ready", "1", "True", 1))
			ctx, cancel := context.WithCancel(t.Context())
			c.cancel = cancel
			waiter, err := join.NewWaiter(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			var reports []string
			next := func() {
				if i := len(reports); i < len(test.events) && test.events[i] != nil {
					test.events[i](c)
				}
			}
			next()
			nodes, err := waiter.Wait(ctx, test.goal, func(n join.Node) {
				reports = append(reports, n.Name+" "+string(n.State))
				next()
			})
			var seen []string
			for _, n := range nodes {
				seen = append(seen, strings.TrimSuffix(n.Name+" "+string(n.State)+": "+n.Reason, ": "))
			}
			if strings.Join(reports, ", ") != test.reports || strings.Join(seen, ", ") != test.seen || !errors.Is(err, context.Cause(ctx)) {
				t.Errorf("got %q (%v), want %q; the reports are %q, want %q", seen, err, test.seen, reports, test.reports)
			}
		})
	}
}

func TestAMissingPermissionIsSeenBeforeTheWait(t *testing.T) {
	for _, verb := range []string{"list", "watch"} {
		c := newCluster(t)
		forbidden := apierrors.NewForbidden(corev1.Resource("nodes"), "", errors.New(verb))
		c.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) { return verb == "list", nil, forbidden })
		c.PrependWatchReactor("nodes", func(clienttesting.Action) (bool, watch.Interface, error) { return verb == "watch", nil, forbidden })
		if _, err := join.NewWaiter(t.Context(), c); !apierrors.IsForbidden(err) {
			t.Errorf("%s: got %v", verb, err)
		}
	}
}
