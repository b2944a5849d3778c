// Package rotation replaces the server token of a K3s cluster. Options.Preflight
// checks that the cluster is ready for it. Plan.Rotate sends the new token to one
// server. Records keeps a record of the rotation in the cluster.
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

// Options are the tokens and the servers of a rotation.
type Options struct {
	// Servers are those of the cluster. All are asked about the current token, and
	// the first gets the new one.
	Servers []supervisor.URL
	// Current is the server token, and New the result of NewToken.
	Current, New token.Token
	// Force goes on despite an earlier record, without a record, and through a
	// possible load balancer.
	Force bool

	// Open connects to the server that a token is for, without credentials.
	Open func(ctx context.Context, server supervisor.URL, t token.Token) (Session, error)
	// Cluster is that of the kubeconfig's context, or nil if there is none.
	Cluster *cluster.Cluster
}

// Plan is a rotation that has passed the preflight.
type Plan struct {
	// Server is the server that gets the new token.
	Server supervisor.URL
	// Token is the new server token, in secure format.
	Token token.Token
	// Warnings are for the user to read before the rotation begins.
	Warnings []string

	options  *Options
	session  Session
	records  *Records // nil if no record is kept
	previous *Record  // of an earlier rotation
	record   *Record  // of this one, once it is written
}

// Preflight checks the tokens, the servers and the record, and changes nothing.
// Close the plan after use.
func (o *Options) Preflight(ctx context.Context) (*Plan, error) {
	session, err := o.Open(ctx, o.Servers[0], o.Current)
	if err != nil {
		return nil, err
	}
	p := &Plan{Server: o.Servers[0], Token: o.New.WithCAHash(session.CAHash()), options: o, session: session}
	for _, check := range []func(context.Context) error{p.checkTokens, p.checkRecord, p.checkNodes} {
		if err := check(ctx); err != nil {
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

// Close closes the connection to the server.
func (p *Plan) Close() { p.session.Close() }

func (p *Plan) warnf(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// unlessForced returns the error, or makes it a warning if the user insists.
func (p *Plan) unlessForced(err error) error {
	if !p.options.Force {
		return err
	}
	p.warnf("%v", err)
	return nil
}

// checkTokens compares the new token with the cluster's CA, and asks all servers
// whether they accept the current one. A refusal shows that an earlier rotation is
// not finished.
func (p *Plan) checkTokens(ctx context.Context) error {
	if hash := p.options.New.CAHash; hash != "" && hash != p.session.CAHash() {
		return hint.New("the new token has the CA hash of another cluster", hintPassword)
	}
	var errs []error
	for _, url := range p.options.Servers {
		if err := p.checkServer(ctx, url); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", url, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Plan) checkServer(ctx context.Context, url supervisor.URL) error {
	session, current := p.session, p.options.Current.WithCAHash(p.session.CAHash())
	if url != p.Server {
		other, err := p.options.Open(ctx, url, current)
		if err != nil {
			return err
		}
		defer other.Close()
		session = other
	}
	// The agent token is good for agents, and cannot be rotated.
	return session.Accepts(ctx, current, supervisor.Server)
}

// checkRecord looks for the record of an earlier rotation in the context's
// cluster. A dry run shows whether the record of this one can be written.
func (p *Plan) checkRecord(ctx context.Context) error {
	c := p.options.Cluster
	var ca cluster.CA
	var err error
	if c != nil {
		if ca, err = c.CA(ctx); err != nil {
			return p.withoutRecord(err)
		}
	}
	if ca.Hash != p.Token.CAHash {
		p.warnf("there is no kubeconfig context of this cluster, so no record of the rotation is kept: " +
			"make sure that an earlier one is finished")
		return nil
	}
	records := NewRecords(c.Client.ConfigMaps(metav1.NamespaceSystem))
	if p.previous, err = records.Get(ctx); err != nil {
		return p.withoutRecord(err)
	}
	if err := records.Save(ctx, p.newRecord(), metav1.DryRunAll); errors.Is(err, errOther) {
		return err
	} else if err != nil {
		return p.withoutRecord(err)
	}
	p.records = records
	return p.checkPrevious()
}

// withoutRecord goes on without a record if the user insists.
func (p *Plan) withoutRecord(err error) error {
	err = fmt.Errorf("a record of the rotation cannot be kept: %w", err)
	return p.unlessForced(hint.Wrap(err, "make ConfigMap %s writable, or add --force to rotate without this record", RecordName))
}

// newRecord returns a record of this rotation, in place of an earlier one.
func (p *Plan) newRecord() *Record {
	r := &Record{State: started, Server: p.Server.String(), Started: time.Now().UTC().Format(time.RFC3339)}
	if p.previous != nil {
		r.meta = p.previous.meta
	}
	return r
}

// checkPrevious decides whether an earlier rotation is in the way. One whose
// outcome is unknown may be repeated through the same server: that server takes
// the old token until it is restarted.
func (p *Plan) checkPrevious() error {
	switch r := p.previous; {
	case r == nil:
		return nil
	case r.State == string(supervisor.Unknown) && r.Server == p.Server.String():
		p.warnf("the outcome of %s is not known; this one replaces it, through the same server", r)
		return nil
	default:
		return p.unlessForced(hint.New(r.String()+" is not finished", "restart every server with its new token, then run verify --all-servers --old-token-file; or add --force"))
	}
}

// checkNodes refuses a load balancer in front of several servers. Through it a
// repeated request may reach another server, which does damage.
func (p *Plan) checkNodes(ctx context.Context) error {
	if p.records == nil {
		return nil // the context is of another cluster, or does not answer
	}
	nodes, err := p.options.Cluster.ServerNodes(ctx)
	if err != nil {
		p.warnf("the nodes cannot be listed: make sure that %s is one server, and no load balancer", p.Server)
		return nil
	}
	if checked := len(p.options.Servers); checked < len(nodes) {
		p.warnf("%d of the cluster's %d servers are not checked: add --all-servers", len(nodes)-checked, len(nodes))
	}
	if len(nodes) < 2 || p.isOneOf(nodes) {
		return nil
	}
	text := fmt.Sprintf("%s is none of the cluster's %d servers", p.Server, len(nodes))
	return p.unlessForced(hint.New(text, "name one of them with --server, or add --force if it leads to one server only"))
}

// isOneOf reports whether all connections lead to one of the nodes, or into a
// tunnel that starts on this machine. Behind a proxy only the server's own
// address counts, since the connections end at the proxy.
func (p *Plan) isOneOf(nodes []corev1.Node) bool {
	hosts := []string{p.Server.Host()}
	if !p.session.Proxied() {
		remote, _, _ := net.SplitHostPort(p.session.Remote())
		if net.ParseIP(remote).IsLoopback() {
			return true
		}
		hosts = append(hosts, remote)
	}
	return slices.ContainsFunc(nodes, func(node corev1.Node) bool {
		return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool { return slices.Contains(hosts, a.Address) })
	})
}
