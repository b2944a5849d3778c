package cmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
)

type versionFlags struct {
	client     *clientFlags
	output     outputFlags
	clientOnly bool
}

func newVersionCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &versionFlags{client: client}
	cmd := &cobra.Command{
		Use:                   "version",
		DisableFlagsInUseLine: true,
		Short:                 "Print the versions of the plugin and of the server",
		Long: `
			Print the version of the plugin, and the version and distribution of the server
			of the current context.`,
		Example: `
			# Both versions
			kubectl k3s-token version

			# The plugin's alone; no cluster is asked
			kubectl k3s-token version --client`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := flags.toOptions(env)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&flags.clientOnly, "client", false, "Print the plugin's version only; no cluster is asked.")
	flags.output.addFlags(cmd)
	return cmd
}

// versionOptions is a checked command line.
type versionOptions struct {
	env        *Env
	client     *clientFlags
	render     render // nil for text
	clientOnly bool
}

func (f *versionFlags) toOptions(env *Env) (*versionOptions, error) {
	o := &versionOptions{env: env, client: f.client, clientOnly: f.clientOnly}
	var err error
	if _, own := f.output.own(); !own {
		o.render, err = f.output.toRender()
	}
	return o, err
}

// run prints what it can: a server that does not answer is an error, after the
// plugin's own version.
func (o *versionOptions) run(ctx context.Context) error {
	info := &VersionInfo{TypeMeta: typeMeta("VersionInfo"), Client: o.env.Build}
	var serverErr error
	if !o.clientOnly {
		info.Server, serverErr = o.serverVersion(ctx)
	}
	result := []byte(info.text())
	if o.render != nil {
		var err error
		if result, err = o.render(info); err != nil {
			return err
		}
	}
	if err := o.env.writeResult(result); err != nil {
		return err
	}
	return serverErr
}

func (o *versionOptions) serverVersion(ctx context.Context) (*ServerVersion, error) {
	conn, err := o.client.connect()
	if err != nil {
		return nil, err
	}
	version, err := cluster.FetchVersion(ctx, conn)
	if err != nil {
		return nil, err
	}
	return &ServerVersion{GitVersion: version.GitVersion, Distribution: string(version.Distribution())}, nil
}

func (i *VersionInfo) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Client Version: %s\n", i.Client.Version)
	if i.Server != nil {
		fmt.Fprintf(&b, "Server Version: %s (%s)\n", printable(i.Server.GitVersion), i.Server.Distribution)
	}
	return b.String()
}
