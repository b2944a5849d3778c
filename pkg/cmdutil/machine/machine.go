// Package machine has the flags of create and join-command about a new machine, and
// the facts of the cluster that its agent needs.
package machine

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// Flags are the flags about the new machine and its server.
type Flags struct {
	CAFile string
	URL    string

	// Params are the values of the flags. Gather adds those of the cluster.
	Params join.Params
	// CA is that of the cluster.
	CA cluster.CA
}

// AddFlags adds the flags.
func (f *Flags) AddFlags(cmd *cobra.Command) {
	flags, p := cmd.Flags(), &f.Params
	flags.Var(cmdutil.NonEmpty(&f.CAFile), "ca-file", "File with the server's CA certificates (server/tls/server-ca.crt in its data directory), instead of asking the cluster.")
	flags.Var(cmdutil.NonEmpty(&f.URL), "url", "Address that the new node dials, such as https://k3s.example.com:6443. (default K3S_URL, or the kubeconfig's server)")
	flags.Var(cmdutil.NonEmpty(&p.NodeName), "node-name", "Name of the new node. (default the machine's host name)")
	flags.StringSliceVar(&p.NodeLabels, "node-label", nil, "Label of the new node, such as rack=7; may be repeated.")
	flags.StringSliceVar(&p.NodeTaints, "node-taint", nil, "Taint of the new node, such as gpu=true:NoSchedule; may be repeated.")
	flags.Var(cmdutil.NonEmpty(&p.InstallURL), "install-url", "Address of the install script. (default https://get.k3s.io, or https://get.rke2.io)")
	flags.Var(cmdutil.NonEmpty(&p.InstallMirror), "install-mirror", "Mirror that the install script downloads from: cn, for China.")
	cmdutil.CompleteValues(cmd, "install-mirror", "cn")
}

// Complete reads the CA of a file and the address that the new node dials, if they are
// given.
func (f *Flags) Complete() (err error) {
	if f.CAFile != "" {
		if f.CA, err = cluster.ReadCAFile(f.CAFile); err != nil {
			return err
		}
	}
	var given []string
	if f.URL != "" {
		given = []string{f.URL}
	}
	urls, err := cmdutil.GivenURLs("--url", given)
	if len(urls) > 0 {
		f.Params.URL = urls[0]
	}
	return err
}

// Need has the facts of the cluster that a command needs besides the version.
type Need struct{ CA, URL bool }

// Gather asks the cluster for its version and its CA at the same time, unless Complete
// has read the CA. It warns of answers that may be wrong for a new node.
func (f *Flags) Gather(ctx context.Context, c *cluster.Cluster, streams cmdutil.Streams, need Need) error {
	var version cluster.Version
	group, asking := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		version, err = c.Version(asking)
		return err
	})
	group.Go(func() (err error) {
		if need.CA && f.CAFile == "" {
			f.CA, err = c.CA(asking)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	p := &f.Params
	if p.Version, p.Distribution = string(version), version.Distribution(); p.Distribution == supervisor.Other {
		streams.Warnf("the server is neither K3s nor RKE2; nodes cannot join with this token")
	}
	if f.CA.Note != "" {
		streams.Warnf("%s", f.CA.Note)
	}
	url, warning, err := c.JoinURL(p.URL, p.Distribution)
	p.URL = url
	switch {
	case !need.URL:
		return nil
	case warning != "":
		streams.Warnf("%s", warning)
	}
	return err
}
