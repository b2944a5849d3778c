// Package cmd is the root command: kubectl's global flags, and one line a verb.
package cmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/templates"
	"k8s.io/kubectl/pkg/util/term"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/completion"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/create"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/delete"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/extend"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/generate"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/inspect"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/joincommand"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/list"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/rotate"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/verify"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/version"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

const (
	// name is the command that a user types, and binary the file that kubectl finds.
	name   = "kubectl k3s-token"
	binary = "kubectl-k3s_token"

	// maxVerbosity is the highest level of client-go's log without bodies.
	maxVerbosity = 7
)

// Run runs the command line args, of which args[0] is the name of the program. It
// prints the error to the streams, and returns it.
func Run(ctx context.Context, args []string, streams genericiooptions.IOStreams, build v1alpha1.ClientVersion) error {
	root := NewCommand(streams, build)
	root.SetArgs(args[1:])
	if called := strings.TrimSuffix(filepath.Base(args[0]), ".exe"); called == completion.Shim {
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, args[1:]...))
	}
	err := root.ExecuteContext(ctx)
	if err != nil {
		cmdutil.ReportError(streams.ErrOut, err)
	}
	return err
}

// NewCommand returns the root command.
func NewCommand(ioStreams genericiooptions.IOStreams, build v1alpha1.ClientVersion) *cobra.Command {
	var verbosity int
	root := &cobra.Command{
		Use:         binary,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: name},
		Short:       "Create, list and revoke K3s node join tokens",
		Long: templates.LongDesc(`
			Manage K3s join tokens with nothing but a kubeconfig: no login on a server node,
			no root.`),
		Example: templates.Examples(`
			# Create a token that a node can join with during the next two hours
			kubectl k3s-token create --ttl 2h

			# Revoke a token
			kubectl k3s-token delete abcdef`),
		Version:                    cmp.Or(build.Version, "unknown"),
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       refuseUnknown,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return setVerbosity(cmd, verbosity) },
	}
	root.SetOut(ioStreams.Out)
	root.SetErr(ioStreams.ErrOut)
	root.SetVersionTemplate("Client Version: {{.Version}}\n")

	streams := cmdutil.Streams{IOStreams: ioStreams}
	configFlags := genericclioptions.NewConfigFlags(true)
	configFlags.CacheDir = nil // nothing is discovered, so nothing is cached
	configFlags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().IntVarP(&verbosity, "v", "v", 0, "Number for the log level verbosity. Levels above 7, which log secrets, act as 7.")
	clients := cmdutil.NewClients(configFlags, streams)

	groups := addVerbs(root, clients, streams, build)
	templates.ActsAsRootCommand(root, []string{"options", "help"}, groups...)
	root.AddCommand(newOptionsCommand())
	root.SetFlagErrorFunc(explainFlag)
	showPluginName(root)
	return root
}

// addVerbs adds the verbs to the root command, and returns their groups.
func addVerbs(root *cobra.Command, clients cmdutil.Clients, streams cmdutil.Streams, build v1alpha1.ClientVersion) templates.CommandGroups {
	groups := templates.CommandGroups{
		{Message: "Bootstrap Tokens in the Cluster:", Commands: []*cobra.Command{
			create.NewCommand(clients, streams),
			joincommand.NewCommand(clients, streams),
			list.NewCommand(clients, streams),
			extend.NewCommand(clients, streams),
			delete.NewCommand(clients, streams),
		}},
		{Message: "Tokens Offline:", Commands: []*cobra.Command{
			generate.NewCommand(streams),
			inspect.NewCommand(streams),
		}},
		{Message: "Trust and the Server Token:", Commands: []*cobra.Command{
			verify.NewCommand(clients, streams),
			rotate.NewCommand(clients, streams),
		}},
	}
	groups.Add(root)
	root.AddCommand(version.NewCommand(clients, streams, build))
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	completion.AddCommand(root, streams)
	return groups
}

// showPluginName has help name the plugin as the user calls it. kubectl's template
// names the binary in one place.
func showPluginName(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		help := strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short)) + strings.ReplaceAll(cmd.UsageString(), binary, name)
		_, _ = io.WriteString(term.NewResponsiveWriter(cmd.OutOrStdout()), help)
	})
}

// setVerbosity sets the level of client-go's log. At level 0 there is none: the errors
// that client-go logs then are reported by the command too.
func setVerbosity(cmd *cobra.Command, verbosity int) error {
	if verbosity <= 0 {
		cmd.SetContext(klog.NewContext(cmd.Context(), klog.New(nil)))
		return nil
	}
	var flags flag.FlagSet
	klog.InitFlags(&flags)
	return flags.Set("v", strconv.Itoa(min(verbosity, maxVerbosity)))
}

// refuseUnknown names an unknown command only if it is like a known one:
// otherwise it may be a token.
func refuseUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return hint.Wrap(fmt.Errorf("unknown command %q for %q", args[0], name), "did you mean %s?", similar[0])
	}
	return hint.Wrap(fmt.Errorf("unknown command for %q", name), "run: %s --help", name)
}

// explainFlag names an unknown flag without the text after it, which may be a secret.
func explainFlag(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name, _, _ := strings.Cut(unknown.GetSpecifiedName(), " ")
		err = fmt.Errorf("unknown flag: %q", name)
	}
	if hint.Of(err) != "" {
		return err
	}
	return hint.Wrap(err, "see %s --help", cmd.CommandPath())
}

func newOptionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "options",
		Short: "Print the list of flags inherited by all commands",
		Run:   func(cmd *cobra.Command, _ []string) { _ = cmd.Usage() },
	}
	templates.UseOptionsTemplates(cmd)
	return cmd
}
