package create

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
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
	ca           cluster.CA
	distribution supervisor.Distribution
	version      string // only if the join command names it
	url          supervisor.URL
}

// gather asks the cluster for the facts that the command needs.
func (o *Options) gather(ctx context.Context, c Cluster) error {
	objects := !o.Print.IsText()
	var err error
	switch {
	case o.CAFile != "":
		if o.facts.ca, err = cluster.ReadCAFile(o.CAFile); err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
	case o.Format == string(token.SecureFormat) || objects:
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
	url, warning, err := c.JoinURL(o.URL, o.facts.distribution)
	if o.Join == "" && o.URL == "" {
		o.facts.url = url // of an object, which can do without
		return nil
	}
	if err != nil {
		return err
	}
	if warning != "" {
		o.Warnf("%s", warning)
	}
	o.facts.url = url
	return nil
}

// gatherVersion learns the distribution. The name of the CA mostly tells it,
// which saves a request.
func (o *Options) gatherVersion(ctx context.Context, c Cluster) error {
	o.facts.distribution = o.facts.ca.Distribution()
	install := o.Join == string(join.Install)
	if o.facts.distribution != supervisor.Other && !install {
		return nil
	}
	version, err := c.Version(ctx)
	switch {
	case apierrors.IsForbidden(err) && !install:
		return nil
	case err != nil:
		return err
	}
	o.facts.version, o.facts.distribution = version.GitVersion, version.Distribution()
	if o.facts.distribution == supervisor.Other {
		o.Warnf("the server is neither K3s nor RKE2; nodes cannot join with this token")
	}
	return nil
}

// setGroups gives the tokens the group of the distribution, unless the user
// chose.
func (o *Options) setGroups(tokens []*bootstrap.Token) {
	if o.Groups != nil {
		return
	}
	group := bootstrap.GroupK3s
	if o.facts.distribution == supervisor.RKE2 {
		group = bootstrap.GroupRKE2
	}
	for _, t := range tokens {
		t.Groups = []string{group}
	}
}
