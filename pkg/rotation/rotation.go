// Package rotation replaces the server token of a K3s cluster. Rotation.Preflight
// checks that the cluster is ready for it, and Rotation.Rotate sends the new token to
// one server. A Record of the rotation is kept in the cluster.
//
// All servers accept the old token until they are restarted with the new one,
// so no probe shows an unfinished rotation. A second one, through another server,
// leaves that server with a third token on its disk. So only one server gets the
// token, the others are asked first, and a record stops a second rotation.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Session is a connection to a K3s server that has proved its identity, such as a
// *supervisor.Session.
type Session interface {
	CAHash() string
	Remote() netip.Addr
	Accepts(ctx context.Context, role supervisor.Role) (supervisor.Verdict, error)
	Rotate(ctx context.Context, next token.Secret) (supervisor.Outcome, error)
}

// Rotation is one rotation of the server token: Preflight, Rotate and Finish, in
// this order.
type Rotation struct {
	// Servers are those of the cluster. All are asked about the current token, and
	// the first gets the new one.
	Servers []supervisor.URL
	// Current is the server token, and New the result of NewToken. Preflight gives both
	// the cluster's CA hash.
	Current, New token.Token
	// Force goes on despite an earlier record, without a record, and through a
	// possible load balancer.
	Force bool

	// Open connects to the server that a token is for, without credentials.
	Open func(ctx context.Context, server supervisor.URL, t token.Token) (Session, error)
	// Cluster is that of the kubeconfig's context, or nil if there is none.
	Cluster *cluster.Cluster
	// Warnf prints a warning of Preflight.
	Warnf func(format string, args ...any)

	session  Session // to the first server
	previous *Record // of an earlier rotation
	record   *Record // of this one; nil if none is kept
}

// Server returns the server that gets the new token.
func (r *Rotation) Server() supervisor.URL { return r.Servers[0] }

// Preflight checks the tokens, the servers and the record, and changes nothing in the
// cluster.
func (r *Rotation) Preflight(ctx context.Context) error {
	for _, check := range []func(context.Context) error{r.checkServers, r.checkRecord, r.checkNodes} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unlessForced returns the error, or makes it a warning if the user insists.
func (r *Rotation) unlessForced(err error) error {
	if !r.Force {
		return err
	}
	r.Warnf("%v", err)
	return nil
}

// checkServers asks all servers whether they accept the current token, and compares the
// new one with the cluster's CA. A refusal shows that an earlier rotation is not finished.
func (r *Rotation) checkServers(ctx context.Context) error {
	var errs []error
	for i, url := range r.Servers {
		session, err := r.Open(ctx, url, r.Current)
		if err == nil {
			r.Current.CAHash = session.CAHash()              // the next servers must have it, too
			_, err = session.Accepts(ctx, supervisor.Server) // the agent token cannot be rotated
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", url, err))
		}
		if i == 0 {
			r.session = session
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if r.New.CAHash != "" && r.New.CAHash != r.Current.CAHash {
		return hint.New("the new token has the CA hash of another cluster", hintPassword)
	}
	r.New.CAHash = r.Current.CAHash
	return nil
}

// checkRecord looks for the record of an earlier rotation in the context's
// cluster. A dry run shows whether the record of this one can be written.
func (r *Rotation) checkRecord(ctx context.Context) error {
	switch err := r.prepareRecord(ctx); {
	case errors.Is(err, errRecordChanged):
		return err
	case err != nil:
		err = fmt.Errorf("a record of the rotation cannot be kept: %w", err)
		return r.unlessForced(hint.Wrap(err, "make ConfigMap %s writable, or add --force to rotate without this record", RecordName))
	case r.record == nil:
		r.Warnf("there is no kubeconfig context of this cluster, so no record of the rotation is kept: " +
			"make sure that an earlier one is finished")
		return nil
	}
	return r.checkPrevious()
}

// prepareRecord sets the record of this rotation, and the previous one that it replaces,
// if the context is of the servers' cluster.
func (r *Rotation) prepareRecord(ctx context.Context) error {
	if r.Cluster == nil {
		return nil
	}
	ca, err := r.Cluster.CA(ctx)
	if err != nil || ca.Hash != r.New.CAHash {
		return err
	}
	record := newRecord(r.Cluster.Client.ConfigMaps(metav1.NamespaceSystem), r.Server())
	if r.previous, err = FindRecord(ctx, record.client); err != nil {
		return err
	}
	if r.previous != nil { // this one is written over it
		record.configMap.ObjectMeta = r.previous.configMap.ObjectMeta
	}
	tried := *record // a dry run changes it as if it were written
	if err := tried.save(ctx, metav1.DryRunAll); err != nil {
		return err
	}
	r.record = record
	return nil
}

// checkPrevious decides whether an earlier rotation is in the way. One whose
// outcome is unknown may be repeated through the same server: that server takes
// the old token until it is restarted.
func (r *Rotation) checkPrevious() error {
	if r.previous == nil {
		return nil
	}
	data := r.previous.configMap.Data
	if data["state"] == string(supervisor.Unknown) && data["server"] == r.Server().String() {
		r.Warnf("the outcome of %s is not known; this one replaces it, through the same server", r.previous)
		return nil
	}
	return r.unlessForced(hint.New(r.previous.String()+" is not finished",
		"restart every server with its new token, then run verify --all-servers --old-token-file; or add --force"))
}

// checkNodes refuses a load balancer in front of several servers. Through it a
// repeated request may reach another server, which does damage.
func (r *Rotation) checkNodes(ctx context.Context) error {
	if r.record == nil {
		return nil // the context is of another cluster, or does not answer
	}
	nodes, err := r.Cluster.ServerNodes(ctx)
	if err != nil {
		r.Warnf("the nodes cannot be listed: make sure that %s is one server, and no load balancer", r.Server())
		return nil
	}
	if checked := len(r.Servers); checked < len(nodes) {
		r.Warnf("%d of the cluster's %d servers are not checked: add --all-servers", len(nodes)-checked, len(nodes))
	}
	if len(nodes) < 2 || r.isOneOf(nodes) {
		return nil
	}
	text := fmt.Sprintf("%s is none of the cluster's %d servers", r.Server(), len(nodes))
	return r.unlessForced(hint.New(text, "name one of them with --server, or add --force if it leads to one server only"))
}

// isOneOf reports whether all connections lead to one of the nodes, or into a
// tunnel that starts on this machine. Behind a proxy only the server's own
// address counts.
func (r *Rotation) isOneOf(nodes []corev1.Node) bool {
	remote := r.session.Remote()
	if remote.IsLoopback() {
		return true
	}
	hosts := []string{r.Server().Host(), remote.Unmap().String()}
	return slices.ContainsFunc(nodes, func(node corev1.Node) bool {
		return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool { return slices.Contains(hosts, a.Address) })
	})
}

// Rotate writes the record and sends the new token to the server. If ctx ends
// before the request is sent, nothing is rotated. If it ends after that, Rotate
// waits a few seconds for the answer.
//
// Unless the outcome is supervisor.NotRotated, the server may have the new token,
// and the caller gives it to the user. After any outcome, the caller calls Finish.
func (r *Rotation) Rotate(ctx context.Context) (supervisor.Outcome, error) {
	writing, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	if r.record != nil {
		if err := r.record.save(writing); err != nil {
			r.record = nil // none, or that of another rotation
			return supervisor.NotRotated, fmt.Errorf("the record of the rotation: %w", err)
		}
	}
	if ctx.Err() != nil {
		return supervisor.NotRotated, context.Cause(ctx)
	}
	return r.session.Rotate(writing, r.New.Secret)
}

// Finish writes the outcome into the record, or takes the record back if the
// token was not rotated. It goes on for a few seconds if ctx ends.
func (r *Rotation) Finish(ctx context.Context, outcome supervisor.Outcome) (err error) {
	if r.record == nil {
		return nil
	}
	writing, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	switch {
	case outcome != supervisor.NotRotated:
		r.record.configMap.Data["state"] = string(outcome)
		err = r.record.save(writing)
	case r.previous == nil:
		err = r.record.Remove(writing)
	default:
		r.previous.configMap.ObjectMeta = r.record.configMap.ObjectMeta
		err = r.previous.save(writing)
	}
	if err != nil {
		return fmt.Errorf("the record does not tell the outcome: %w", err)
	}
	return nil
}
