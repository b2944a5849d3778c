// Package version is the verb version: the versions of the plugin and the server.
package version

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Options are those of version.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags

	ClientOnly bool
}

// NewCommand returns the verb version for a build of the plugin.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams, build v1alpha1.ClientVersion) *cobra.Command {
	o := &Options{Streams: streams, Print: cmdutil.NewPrintFlags(cmdutil.Text(text))}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the plugin and the server",
		Example: templates.Examples(`
			# Print the plugin's version alone; no cluster is asked
			kubectl k3s-token version --client`),
		Args: cobra.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			info := &v1alpha1.VersionInfo{Client: build}
			var serverErr error
			if !o.ClientOnly {
				info.Server, serverErr = serverVersion(cmd.Context(), clients)
			}
			return errors.Join(o.Streams.Print(cmd.Context(), printer, info), serverErr)
		},
	}
	cmd.Flags().BoolVar(&o.ClientOnly, "client", false, "Print the plugin's version only; no cluster is asked.")
	o.Print.AddFlags(cmd)
	return cmd
}

func serverVersion(ctx context.Context, clients cmdutil.Clients) (*v1alpha1.ServerVersion, error) {
	c, err := clients.Cluster()
	if err != nil {
		return nil, err
	}
	version, err := c.Version(ctx)
	if err != nil {
		return nil, err
	}
	return &v1alpha1.ServerVersion{GitVersion: string(version), Distribution: string(version.Distribution())}, nil
}

func text(info *v1alpha1.VersionInfo) (string, error) {
	lines := fmt.Sprintf("Client Version: %s\n", info.Client.Version)
	if info.Server != nil {
		lines += fmt.Sprintf("Server Version: %s (%s)\n", printers.EscapeTerminal(info.Server.GitVersion), info.Server.Distribution)
	}
	return lines, nil
}
