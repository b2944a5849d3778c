// Package rotation replaces the server token of a K3s cluster. Rotation.Preflight
// checks that the cluster is ready for it, and Rotation.Rotate sends the new token to
// one server. Records keeps a record of the rotation in the cluster.
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
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Session is a connection to a K3s server that has proved its identity, such as a
// *supervisor.Session.
type Session interface {
	CAHash() string
	Remote() string
	Proxied() bool
	Accepts(ctx context.Context, t token.Token, role supervisor.Role) error
	Rotate(ctx context.Context, current token.Token, next token.Secret) (supervisor.Outcome, error)
	Close()
}

// Rotation is one rotation of the server token: Preflight, Rotate, Finish and Close, in
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

	// Warnings are those of Preflight, for the user to read before Rotate.
	Warnings []string

	session  Session
	records  *Records // nil if no record is kept
	previous *Record  // of an earlier rotation
	record   *Record  // of this one, once it is written
}

// Server returns the server that gets the new token.
func (r *Rotation) Server() supervisor.URL { return r.Servers[0] }

// Preflight checks the tokens, the servers and the record, and changes nothing in the
// cluster. Without an error, the caller calls Close after use.
func (r *Rotation) Preflight(ctx context.Context) (err error) {
	if r.session, err = r.Open(ctx, r.Server(), r.Current); err != nil {
		return err
	}
	for _, check := range []func(context.Context) error{r.checkTokens, r.checkRecord, r.checkNodes} {
		if err := check(ctx); err != nil {
			r.Close()
			return err
		}
	}
	return nil
}

// Close closes the connection to the server.
func (r *Rotation) Close() { r.session.Close() }

func (r *Rotation) warnf(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// unlessForced returns the error, or makes it a warning if the user insists.
func (r *Rotation) unlessForced(err error) error {
	if !r.Force {
		return err
	}
	r.warnf("%v", err)
	return nil
}

// checkTokens compares the new token with the cluster's CA, and asks all servers
// whether they accept the current one. A refusal shows that an earlier rotation is
// not finished.
func (r *Rotation) checkTokens(ctx context.Context) error {
	hash := r.session.CAHash()
	if r.New.CAHash != "" && r.New.CAHash != hash {
		return hint.New("the new token has the CA hash of another cluster", hintPassword)
	}
	r.Current.CAHash, r.New.CAHash = hash, hash
	var errs []error
	for _, url := range r.Servers {
		if err := r.checkServer(ctx, url); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", url, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Rotation) checkServer(ctx context.Context, url supervisor.URL) error {
	session := r.session
	if url != r.Server() {
		other, err := r.Open(ctx, url, r.Current)
		if err != nil {
			return err
		}
		defer other.Close()
		session = other
	}
	// The agent token is good for agents, and cannot be rotated.
	return session.Accepts(ctx, r.Current, supervisor.Server)
}

// checkRecord looks for the record of an earlier rotation in the context's
// cluster. A dry run shows whether the record of this one can be written.
func (r *Rotation) checkRecord(ctx context.Context) error {
	c := r.Cluster
	var ca cluster.CA
	var err error
	if c != nil {
		if ca, err = c.CA(ctx); err != nil {
			return r.withoutRecord(err)
		}
	}
	if ca.Hash != r.New.CAHash {
		r.warnf("there is no kubeconfig context of this cluster, so no record of the rotation is kept: " +
			"make sure that an earlier one is finished")
		return nil
	}
	records := NewRecords(c.Client.ConfigMaps(metav1.NamespaceSystem))
	if r.previous, err = records.Get(ctx); err != nil {
		return r.withoutRecord(err)
	}
	if err := records.Save(ctx, r.newRecord(), metav1.DryRunAll); errors.Is(err, errRecordChanged) {
		return err
	} else if err != nil {
		return r.withoutRecord(err)
	}
	r.records = records
	return r.checkPrevious()
}

// withoutRecord goes on without a record if the user insists.
func (r *Rotation) withoutRecord(err error) error {
	err = fmt.Errorf("a record of the rotation cannot be kept: %w", err)
	return r.unlessForced(hint.Wrap(err, "make ConfigMap %s writable, or add --force to rotate without this record", RecordName))
}

// newRecord returns a record of this rotation, in place of an earlier one.
func (r *Rotation) newRecord() *Record {
	record := &Record{State: started, Server: r.Server().String(), Started: time.Now().UTC().Format(time.RFC3339)}
	if r.previous != nil {
		record.meta = r.previous.meta
	}
	return record
}

// checkPrevious decides whether an earlier rotation is in the way. One whose
// outcome is unknown may be repeated through the same server: that server takes
// the old token until it is restarted.
func (r *Rotation) checkPrevious() error {
	switch previous := r.previous; {
	case previous == nil:
		return nil
	case previous.State == string(supervisor.Unknown) && previous.Server == r.Server().String():
		r.warnf("the outcome of %s is not known; this one replaces it, through the same server", previous)
		return nil
	default:
		return r.unlessForced(hint.New(previous.String()+" is not finished",
			"restart every server with its new token, then run verify --all-servers --old-token-file; or add --force"))
	}
}

// checkNodes refuses a load balancer in front of several servers. Through it a
// repeated request may reach another server, which does damage.
func (r *Rotation) checkNodes(ctx context.Context) error {
	if r.records == nil {
		return nil // the context is of another cluster, or does not answer
	}
	nodes, err := r.Cluster.ServerNodes(ctx)
	if err != nil {
		r.warnf("the nodes cannot be listed: make sure that %s is one server, and no load balancer", r.Server())
		return nil
	}
	if checked := len(r.Servers); checked < len(nodes) {
		r.warnf("%d of the cluster's %d servers are not checked: add --all-servers", len(nodes)-checked, len(nodes))
	}
	if len(nodes) < 2 || r.isOneOf(nodes) {
		return nil
	}
	text := fmt.Sprintf("%s is none of the cluster's %d servers", r.Server(), len(nodes))
	return r.unlessForced(hint.New(text, "name one of them with --server, or add --force if it leads to one server only"))
}

// isOneOf reports whether all connections lead to one of the nodes, or into a
// tunnel that starts on this machine. Behind a proxy only the server's own
// address counts, since the connections end at the proxy.
func (r *Rotation) isOneOf(nodes []corev1.Node) bool {
	hosts := []string{r.Server().Host()}
	if !r.session.Proxied() {
		remote, _, _ := net.SplitHostPort(r.session.Remote())
		if net.ParseIP(remote).IsLoopback() {
			return true
		}
		hosts = append(hosts, remote)
	}
	return slices.ContainsFunc(nodes, func(node corev1.Node) bool {
		return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool { return slices.Contains(hosts, a.Address) })
	})
}
