package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// contextCluster explains the answers of servers by what the context's cluster knows.
type contextCluster struct {
	ca      func(context.Context) (cluster.CA, error)
	stored  func(context.Context, token.Token) (*bootstrap.Token, error)
	records *rotation.Records // nil if there is no cluster
}

func newContextCluster(servers *target.Servers) contextCluster {
	c := contextCluster{ca: servers.ContextCA}
	if servers.Cluster == nil {
		return c
	}
	store := bootstrap.NewStore(servers.Cluster.Client.Secrets(bootstrap.Namespace))
	c.stored = func(ctx context.Context, t token.Token) (*bootstrap.Token, error) {
		ref, err := bootstrap.ParseRef(t.Reveal())
		if err != nil {
			return nil, err
		}
		return store.Get(ctx, ref)
	}
	c.records = rotation.NewRecords(servers.Cluster.Client.ConfigMaps(bootstrap.Namespace))
	return c
}

// explainMismatch says which of token and server is the context's, if one is.
func (c contextCluster) explainMismatch(ctx context.Context, err error) string {
	var mismatch *supervisor.HashMismatchError
	if !errors.As(err, &mismatch) {
		return ""
	}
	ca, _ := c.ca(ctx)
	switch ca.Hash {
	case mismatch.Server:
		return "the server is the context's, so the token is another cluster's, or older than the CA"
	case mismatch.Token:
		return "the token is the context's, and the server is not"
	}
	return ""
}

// settleRotation removes the record of a rotation, if there is one, once every server
// accepts the new token and refuses the old one.
func (o *Options) settleRotation(ctx context.Context, items []v1alpha1.Verification, c contextCluster) {
	t := o.token.Type()
	if c.records == nil || t == token.Bootstrap || t == token.Agent {
		return
	}
	record, err := c.records.Get(ctx)
	switch {
	case err != nil || record == nil:
	case o.oldToken == nil:
		o.Warnf("%s is not known to be finished: add --old-token-file", record)
	case slices.ContainsFunc(items, notRotated):
		o.Warnf("%s is not finished: restart each server that does not accept the new token alone", record)
	default:
		if err = c.records.Remove(ctx, record); err == nil {
			o.Notef("%s is finished; its record was removed (ConfigMap %s)", fmt.Sprint(record), rotation.RecordName)
		}
	}
	if err != nil {
		o.Warnf("ConfigMap %s, the record of a rotation: %v", rotation.RecordName, err)
	}
}

// notRotated tells whether a server does not accept the new server token, or may
// accept the old one.
func notRotated(v v1alpha1.Verification) bool {
	return !v.JoinsServers || v.OldToken != string(supervisor.Refused)
}
