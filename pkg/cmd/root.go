package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/kubectl/pkg/util/templates"
)

// Name is how the user calls the plugin; BinaryName is how kubectl finds it.
const (
	Name       = "kubectl k3s-token"
	BinaryName = "kubectl-k3s_token"
)

// Run is the whole program: it runs the command line args, args[0] being the
// name that the program was called by, and returns its exit code.
func Run(ctx context.Context, args []string, env Env) int {
	env.interrupts = &interrupts{}
	root := newCommand(&env)
	// Laying out the help of all commands takes a tenth of a quick one's time.
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		layOutHelp(cmd)
		help(cmd, args)
	})
	root.SetArgs(args[1:])
	if called := strings.TrimSuffix(strings.ToLower(filepath.Base(args[0])), ".exe"); called == completionShim {
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, args[1:]...))
	}
	err := env.interrupts.await(ctx, func() error { return root.ExecuteContext(ctx) })
	if err == nil {
		return 0
	}
	mask := withoutSecrets(args[1:])
	for _, message := range report(err) {
		for line := range strings.Lines(mask(message)) {
			env.note("%s", strings.TrimSuffix(line, "\n"))
		}
	}
	if interrupted, ok := interruption(ctx); ok {
		return interrupted.ExitCode
	}
	return 1
}

// NewCommand returns the command line, for documents and tests.
func NewCommand(env *Env) *cobra.Command {
	root := newCommand(env)
	layOutHelp(root)
	for _, cmd := range root.Commands() {
		layOutHelp(cmd)
	}
	return root
}

// layOutHelp brings a command's texts into the form that kubectl shows.
func layOutHelp(cmd *cobra.Command) {
	cmd.Long, cmd.Example = templates.LongDesc(cmd.Long), templates.Examples(cmd.Example)
}

// newCommand returns the command line, with help as it stands in the source.
func newCommand(env *Env) *cobra.Command {
	var verbosity int
	root := &cobra.Command{
		Use:         BinaryName,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: Name},
		Short:       "Create, list and revoke K3s node join tokens",
		Long: `
			Create, list, extend, delete and inspect K3s join tokens with nothing but a
			kubeconfig: no login on a server node, no root.`,
		Example: `
			# A token that a node can join with during the next two hours
			kubectl k3s-token create --ttl 2h

			# What there is, and when it ends
			kubectl k3s-token list

			# Take a token back
			kubectl k3s-token delete abcdef`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:                       unknownCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			ctx, err := withLogging(cmd.Context(), verbosity, env.ErrOut)
			cmd.SetContext(ctx)
			return err
		},
	}
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.ErrOut)

	client := newClientFlags(env)
	client.addFlags(root.PersistentFlags())
	root.PersistentFlags().IntVarP(&verbosity, "v", "v", 0, "Number for the log level verbosity. Secrets are left out of the log at every level.")
	completeKubeconfig(root, client)

	groups := templates.CommandGroups{
		{Message: "Bootstrap Tokens in the Cluster:", Commands: []*cobra.Command{
			newCreateCommand(env, client),
			newListCommand(env, client),
			newExtendCommand(env, client),
			newDeleteCommand(env, client),
		}},
		{Message: "Tokens Offline:", Commands: []*cobra.Command{
			newGenerateCommand(env),
			newInspectCommand(env),
		}},
		{Message: "Trust and the Server Token:", Commands: []*cobra.Command{
			newVerifyCommand(env, client),
			newRotateCommand(env, client),
		}},
		{Message: "Settings and Information:", Commands: []*cobra.Command{
			newVersionCommand(env, client),
			newCompletionCommand(env),
		}},
	}
	groups.Add(root)
	templates.ActsAsRootCommand(root, []string{"options"}, groups...)
	showPluginName(root)
	hideMistypedSecrets(root)
	root.SetHelpCommand(&cobra.Command{Use: "help [command]", Short: "Help about any command", Hidden: true, Run: func(cmd *cobra.Command, args []string) {
		if about, _, err := root.Find(args); err == nil {
			cmd = about
		}
		_ = cmd.Help()
	}})
	root.AddCommand(newOptionsCommand(env))
	return root
}

// showPluginName has usage texts call the plugin what the user calls it: one
// line of kubectl's template uses the name of the binary.
func showPluginName(root *cobra.Command) {
	usage := root.UsageFunc()
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		out := cmd.OutOrStderr()
		var text strings.Builder
		cmd.SetOut(&text)
		cmd.SetErr(&text)
		defer cmd.SetOut(nil)
		defer cmd.SetErr(nil)
		if err := usage(cmd); err != nil {
			return err
		}
		_, err := io.WriteString(out, strings.ReplaceAll(text.String(), BinaryName, Name))
		return err
	})
}

// hideMistypedSecrets keeps errors about flags from repeating a secret that
// begins with a dash.
func hideMistypedSecrets(root *cobra.Command) {
	explain := root.FlagErrorFunc()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "" {
			err = fmt.Errorf("unknown shorthand flag: %q", unknown.GetSpecifiedName())
		}
		return explain(cmd, err)
	})
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command for %q", cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 { // else it may be a token
		message = fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		message += "\n\nDid you mean this?\n\t" + strings.Join(similar, "\n\t") + "\n"
	}
	return fmt.Errorf("%s\nRun '%s --help' for usage.", message, cmd.CommandPath()) //nolint:staticcheck,revive // kubectl's wording
}

func newOptionsCommand(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "options",
		Short: "Print the list of flags inherited by all commands",
		Args:  noArguments,
		Run:   func(cmd *cobra.Command, _ []string) { _ = cmd.Usage() },
	}
	cmd.SetOut(env.Out)
	cmd.SetErr(env.Out)
	templates.UseOptionsTemplates(cmd)
	return cmd
}
