// Package verify is the verb verify: it tries a token on servers, as a joining node
// does.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Options are those of verify.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags
	target.Flags

	Role         supervisor.Role
	OldTokenFile string

	// Try is supervisor.Verify.
	Try func(context.Context, supervisor.URL, token.Token, supervisor.Role, supervisor.Options) supervisor.Report

	servers  *target.Servers
	token    token.Token
	oldToken token.Token
}

// NewCommand returns the verb verify.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Try: supervisor.Verify}
	o.Print = cmdutil.NewPrintFlags(printText)
	cmd := &cobra.Command{
		Use:   "verify (TOKEN | - | --token-file FILE) [--server URL]...",
		Short: "Check whether a node can join with a token",
		Long: templates.LongDesc(`
			Try a token on K3s servers as a joining node does, without joining. The exit code is
			0 only if a node can join. The credentials go to no server that has not proved to be
			the token's.

			Each role that the token is for is tried by itself. An agent checks the server's
			certificate for 127.0.0.1, sends no server name (SNI), and uses no proxy. A joining
			server checks it for the address that it dials. Bootstrap tokens and the agent token
			join agents, the server token joins both.

			After a rotation of the server token, --old-token-file shows which servers were
			not restarted. Once all accept the new token alone, the record of the rotation is
			removed.

			--server and --token are those of "k3s token rotate", not kubectl's.`),
		Example: templates.Examples(`
			# Check whether a node can join with the token in a file
			kubectl k3s-token verify --token-file node-token

			# Check whether every server of the cluster accepts the token
			kubectl k3s-token verify --all-servers --token-file node-token

			# Print what the token is good for, for a script
			kubectl k3s-token verify --token-file node-token -o jsonpath='{.joinsAgents} {.joinsServers}'`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if err := o.Complete(cmd.Context(), clients, args); err != nil {
				return err
			}
			return o.Run(cmd.Context(), printer)
		},
	}
	o.AddFlags(cmd, "the token to verify")
	cmdutil.AddChoice(cmd, &o.Role, "role", `Role of the joining node, "agent" or "server". (default the roles that the token is for)`,
		string(supervisor.Agent), string(supervisor.Server))
	cmd.Flags().Var(cmdutil.NonEmpty(&o.OldTokenFile), "old-token-file", "File with the server token from before a rotation, to see which servers still accept it.")
	o.Print.AddFlags(cmd)
	return cmd
}

// Complete reads the tokens and the addresses of the servers.
func (o *Options) Complete(ctx context.Context, clients cmdutil.Clients, args []string) (err error) {
	if o.token, err = o.ReadOneToken(ctx, args, o.Token, o.TokenFile); err != nil {
		return err
	}
	if o.OldTokenFile != "" {
		o.oldToken, err = o.ReadOneToken(ctx, nil, "", o.OldTokenFile)
		if kind := o.oldToken.Type(); kind == token.Bootstrap || kind == token.Agent {
			err = fmt.Errorf("the token is of type %s, but only the server token is rotated", kind)
		}
		if err != nil {
			return fmt.Errorf("--old-token-file: %w", err)
		}
	}
	o.servers, err = o.Servers(clients)
	return err
}

// roles returns the roles in which the token is tried: those that it is for.
func (o *Options) roles() []supervisor.Role {
	switch kind := o.token.Type(); {
	case o.Role != "":
		return []supervisor.Role{o.Role}
	case kind == token.Bootstrap || kind == token.Agent:
		return []supervisor.Role{supervisor.Agent}
	}
	return []supervisor.Role{supervisor.Agent, supervisor.Server}
}

// Run tries the token on each server and prints the answers.
func (o *Options) Run(ctx context.Context, printer printers.ResourcePrinter) error {
	urls, err := o.servers.URLs(ctx)
	if err != nil {
		return err
	}
	o.warn(urls)
	list := &v1alpha1.VerificationList{Items: make([]v1alpha1.Verification, len(urls))}
	cmdutil.ForEach(ctx, len(urls), func(i int) error {
		list.Items[i] = o.verify(ctx, urls[i])
		return nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failure := o.failure(list.Items)
	if len(urls) == 1 && !o.AllServers {
		return errors.Join(o.Streams.Print(ctx, printer, &list.Items[0]), failure)
	}
	err = o.Streams.Print(ctx, printer, list)
	if o.AllServers {
		o.finishRotation(ctx, failure == nil)
	}
	return errors.Join(err, failure)
}

func (o *Options) warn(urls []supervisor.URL) {
	if err := o.token.Mistyped(); err != nil {
		o.Warnf("the token is taken as a password; as a bootstrap token it is malformed: %s", err)
	}
	for _, url := range urls {
		if settings := o.servers.NotForNodes(url); len(settings) > 0 {
			o.Warnf("nodes do not use the context's %s: they connect to %s directly", strings.Join(settings, " and "), url)
			return
		}
	}
}

// isGood reports whether a node can join the server with the token. After a rotation the
// server has to accept the new token, and to refuse the old one.
func (o *Options) isGood(v v1alpha1.Verification) bool {
	if o.OldTokenFile == "" {
		return v.JoinsAgents || v.JoinsServers
	}
	last := v.Roles[len(v.Roles)-1] // a server, unless the token is for agents alone
	return last.Verdict == string(supervisor.Accepted) && v.OldToken == string(supervisor.Refused)
}

// failure returns an error if the token is not good on a server.
func (o *Options) failure(items []v1alpha1.Verification) error {
	bad := slices.DeleteFunc(slices.Clone(items), o.isGood)
	switch {
	case len(bad) == 0:
		return nil
	case len(items) > 1:
		return fmt.Errorf("the token is not good on %d of %d servers", len(bad), len(items))
	case bad[0].OldToken != "" && bad[0].OldToken != string(supervisor.Refused):
		return hint.Wrap(fmt.Errorf("%s has not refused the old token", bad[0].Server), "restart it with the new token")
	case bad[0].Verdict == string(supervisor.Accepted) && o.OldTokenFile == "":
		return fmt.Errorf("%s accepts the token, but no node joins with it", bad[0].Server)
	}
	return fmt.Errorf("%s has not accepted the token", bad[0].Server)
}

// finishRotation removes the record of a rotation, if there is one and the token was found
// good as the new server token.
func (o *Options) finishRotation(ctx context.Context, good bool) {
	if !slices.Contains(o.roles(), supervisor.Server) {
		return
	}
	record, err := rotation.FindRecord(ctx, o.servers.Cluster.Client.ConfigMaps(bootstrap.Namespace))
	switch {
	case err != nil || record == nil:
	case o.OldTokenFile == "":
		o.Warnf("%s is not known to be finished: add --old-token-file", record)
	case !good:
		o.Warnf("%s is not finished: restart each server that does not accept the new token alone", record)
	default:
		if err = record.Remove(ctx); err == nil {
			o.Notef("%s is finished; its record was removed (ConfigMap %s)", record, rotation.RecordName)
		}
	}
	if err != nil {
		o.Warnf("the record of a rotation: %v", err)
	}
}
