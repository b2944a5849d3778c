package create

import (
	"context"
	"fmt"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Cluster is what create needs to know of a cluster.
type Cluster interface {
	CA(ctx context.Context) (cluster.CA, error)
	Version(ctx context.Context) (cluster.Version, error)
	JoinURL(given string, d supervisor.Distribution) (url supervisor.URL, warning string, err error)
}

// facts are what create knows of the cluster before it changes it.
type facts struct {
	ca   cluster.CA
	join join.Params // all but the token
}

// gather asks the cluster for the facts that the command needs.
func (o *Options) gather(ctx context.Context, c Cluster) (err error) {
	switch {
	case o.CAFile != "":
		if o.facts.ca, err = cluster.ReadCAFile(o.CAFile); err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
	case o.Format == string(token.SecureFormat) || !o.Print.IsText():
		if o.facts.ca, err = c.CA(ctx); err != nil {
			return err
		}
	}
	if o.facts.ca.Note != "" {
		o.Warnf("%s", o.facts.ca.Note)
	}
	if err := o.gatherVersion(ctx, c); err != nil {
		return err
	}
	url, warning, err := c.JoinURL(o.URL, o.facts.join.Distribution)
	o.facts.join.URL = url
	switch {
	case o.Join == "" && o.URL == "":
		return nil // of an object, which can do without
	case err != nil:
		return err
	case warning != "":
		o.Warnf("%s", warning)
	}
	return nil
}

// gatherVersion learns the distribution. The name of the CA mostly tells it,
// which saves a request.
func (o *Options) gatherVersion(ctx context.Context, c Cluster) error {
	p := &o.facts.join
	if p.Distribution = o.facts.ca.Distribution(); p.Distribution != supervisor.Other && o.Join != string(join.Install) {
		return nil
	}
	version, err := c.Version(ctx)
	if err != nil {
		return err
	}
	if p.Version, p.Distribution = version.GitVersion, version.Distribution(); p.Distribution == supervisor.Other {
		o.Warnf("the server is neither K3s nor RKE2; nodes cannot join with this token")
	}
	return nil
}
