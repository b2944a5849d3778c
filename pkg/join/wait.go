package join

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// State is how far a node has come.
type State string

// The states of a node.
const (
	Existing   State = "there already, and has not joined again"
	Registered State = "registered" // but not Ready, or not any more
	Ready      State = "Ready"
	Deleted    State = "deleted"
)

// Node is a node that a wait has seen.
type Node struct {
	Name  string
	State State
	// Reason says why a node that has registered is not Ready, in the words of its
	// kubelet. It may be empty.
	Reason string

	uid types.UID
}

// ReadyNames returns the names of those nodes that are Ready.
func ReadyNames(nodes []Node) []string {
	var names []string
	for _, node := range nodes {
		if node.State == Ready {
			names = append(names, node.Name)
		}
	}
	return names
}

// Goal is the end of a wait: the node Name or, if that is empty, Count new nodes.
type Goal struct {
	Name  string
	Count int
}

// among returns those nodes that count for the goal, by name.
func (g Goal) among(nodes map[string]Node) []Node {
	sorted := slices.SortedFunc(maps.Values(nodes), func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return slices.DeleteFunc(sorted, func(n Node) bool { return g.Name != "" && n.Name != g.Name })
}

// Waiter waits for nodes. It knows those that were there before.
type Waiter struct {
	nodes  corev1client.NodeInterface
	before map[string]Node
}

// NewWaiter lists the nodes, and tries whether they may be watched. Call it before
// there is a token to join with, since the listed nodes are not new. The errors are
// those of the API server.
func NewWaiter(ctx context.Context, nodes corev1client.NodeInterface) (*Waiter, error) {
	list, err := nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	watcher, err := nodes.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, err
	}
	watcher.Stop()
	w := &Waiter{nodes, map[string]Node{}}
	for _, node := range list.Items {
		w.before[node.Name] = newNode(&node)
	}
	return w, nil
}

// Wait waits until the nodes that the goal asks for are Ready. It returns the nodes
// that count, as it saw them last, also with an error. If ctx ends first, the error is
// its cause. Each time a node has come to another state, Wait calls report, also for
// nodes that do not count.
//
// It watches, and lists the nodes again if a watch ends: the API server may restart
// meanwhile.
func (w *Waiter) Wait(ctx context.Context, goal Goal, report func(Node)) ([]Node, error) {
	seen := map[string]Node{}
	note := func(node Node) {
		if seen[node.Name].State != node.State {
			report(node)
		}
		seen[node.Name] = node
	}
	if _, there := w.before[goal.Name]; there {
		note(Node{Name: goal.Name, State: Existing})
	}
	listWatch := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return w.nodes.List(ctx, options)
		},
		WatchFuncWithContext: w.nodes.Watch,
	}, w.nodes)
	_, err := watchtools.UntilWithSync(ctx, listWatch, &corev1.Node{}, nil, func(event watch.Event) (bool, error) {
		node := newNode(event.Object.(*corev1.Node))
		if w.isNew(node, goal) {
			if event.Type == watch.Deleted {
				node.State, node.Reason = Deleted, ""
			}
			note(node)
		}
		return len(ReadyNames(goal.among(seen))) >= max(goal.Count, 1), nil
	})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return goal.among(seen), err
}

// Check returns why the API server does not answer about nodes, or nil if it does
// within five seconds. A watch may not tell that its server is gone.
func (w *Waiter) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := w.nodes.List(ctx, metav1.ListOptions{Limit: 1})
	return err
}

// isNew reports whether a node has joined since the waiter was made. A node that was
// there before counts if the goal names it, and it was made anew or was not Ready then.
func (w *Waiter) isNew(node Node, goal Goal) bool {
	old, there := w.before[node.Name]
	if !there || node.Name != goal.Name {
		return !there
	}
	return node.uid != old.uid || node.State == Ready && old.State != Ready
}

func newNode(node *corev1.Node) Node {
	n := Node{Name: node.Name, State: Registered, uid: node.UID}
	for _, condition := range node.Status.Conditions {
		switch {
		case condition.Type != corev1.NodeReady:
		case condition.Status == corev1.ConditionTrue:
			n.State = Ready
		default:
			n.Reason = condition.Message
		}
	}
	return n
}
