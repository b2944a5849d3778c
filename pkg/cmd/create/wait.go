package create

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
)

// Wait is --wait and the flags that go with it.
type Wait struct {
	On                bool
	Node              string // empty for any
	Timeout           time.Duration
	DeleteAfterJoin   bool
	DeleteOnInterrupt bool
}

func (w *Wait) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Func("wait", "Wait until a new node is Ready, or as many as --count. --wait=NODE waits for that node.", w.set)
	flags.Lookup("wait").NoOptDefVal = "true"
	flags.DurationVar(&w.Timeout, "wait-timeout", 10*time.Minute, "How long --wait waits.")
	flags.BoolVar(&w.DeleteAfterJoin, "delete-after-join", false, "With --wait: delete the token once the node is Ready.")
	flags.BoolVar(&w.DeleteOnInterrupt, "delete-on-interrupt", false, "With --wait: delete the token if the wait is interrupted.")
}

// set takes a boolean too, as --wait of other kubectl commands is one.
func (w *Wait) set(value string) error {
	w.On, w.Node = value != "false", ""
	if value == "true" || value == "false" {
		return nil
	}
	w.Node = value
	return join.ValidateNodeName(value)
}

// wait waits for a node for each of the tokens, which the user has.
func (o *Options) wait(ctx context.Context, waiter *join.Waiter, store Store, tokens []*bootstrap.Token) error {
	if out, ok := o.Out.(io.Closer); ok {
		_ = out.Close() // some readers, such as "ssh worker-1 'cat >config.yaml'", wait for the end
	}
	goal := join.Goal{Name: cmp.Or(o.Wait.Node, o.Params.NodeName), Count: len(tokens)}
	o.Notef("waiting up to %s for %s to become Ready", duration.HumanDuration(o.Wait.Timeout), describe(goal))
	if end := tokens[0].Expires; !end.IsZero() && time.Until(end) < o.Wait.Timeout {
		o.Warnf("the token expires before the wait is over")
	}
	err := o.await(ctx, waiter, goal)
	switch {
	case err == nil && o.Wait.DeleteAfterJoin, ctx.Err() != nil && o.Wait.DeleteOnInterrupt:
		if left := remove(ctx, store, tokens); left != nil {
			return errors.Join(err, left)
		}
		o.Notef("deleted: %s", ids(tokens))
	case err != nil:
		o.Notef("%s left in the cluster: %s", cmdutil.CountTokens(len(tokens)), ids(tokens))
	}
	return err
}

// await returns nil once the goal is reached. It tells how far the nodes have come.
func (o *Options) await(ctx context.Context, waiter *join.Waiter, goal join.Goal) error {
	waiting, cancel := context.WithTimeout(ctx, o.Wait.Timeout)
	defer cancel()
	seen, err := waiter.Wait(waiting, goal, func(node join.Node) {
		other := ""
		if goal.Name != "" && node.Name != goal.Name {
			other = " (another node)"
		}
		o.Notef("node %q: %s%s", node.Name, node.State, other)
	})
	if err == nil {
		o.Notef("joined: %s", strings.Join(join.ReadyNames(seen), " "))
		return nil
	}
	for _, node := range seen {
		if node.Reason != "" { // no node is Ready at first, so it is not told before
			o.Notef("node %q: %s, not Ready: %s", node.Name, node.State, node.Reason)
		}
	}
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(o.timedOut(goal, seen), waiter.Check(ctx))
}

func (o *Options) timedOut(goal join.Goal, seen []join.Node) error {
	text := fmt.Sprintf("timed out after %s waiting for %s", duration.HumanDuration(o.Wait.Timeout), describe(goal))
	if len(seen) == 0 {
		return hint.New(text+": none has registered", "look at the agent's log on the machine: journalctl -u k3s-agent, or rke2-agent")
	}
	return hint.New(fmt.Sprintf("%s: %d of %d Ready", text, len(join.ReadyNames(seen)), goal.Count),
		"look at kubectl describe node, and at the agent's log on the machine")
}

func describe(goal join.Goal) string {
	switch {
	case goal.Name != "":
		return fmt.Sprintf("node %q", goal.Name)
	case goal.Count == 1:
		return "a new node"
	}
	return fmt.Sprintf("%d new nodes", goal.Count)
}
