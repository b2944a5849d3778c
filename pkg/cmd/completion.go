package cmd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

const (
	// completionShim is the program that kubectl looks for in PATH to complete
	// what is typed after "kubectl k3s-token" (kubectl 1.26 and later).
	completionShim = "kubectl_complete-k3s_token"

	// completionBound is how long somebody who has pressed TAB waits for the
	// cluster.
	completionBound = 2 * time.Second
)

// CompletionShim returns the program that kubectl looks for on that operating
// system, a value of runtime.GOOS, and the name of its file.
func CompletionShim(goos string) (name, program string) {
	if goos == "windows" {
		return completionShim + ".cmd", windowsShim
	}
	return completionShim, shim
}

const shim = `#!/bin/sh
# Completion of "kubectl k3s-token" (kubectl 1.26 or later).
# Put this file into a folder of your PATH under the name ` + completionShim + `
# and make it executable:
#
#   kubectl k3s-token completion > ~/.local/bin/` + completionShim + `
#   chmod +x ~/.local/bin/` + completionShim + `
exec ` + BinaryName + ` ` + cobra.ShellCompRequestCmd + ` "$@"
`

// The variable keeps cmd from running a file of that name in the current folder,
// where it would look first.
const windowsShim = `@rem Completion of "kubectl k3s-token" (kubectl 1.26 or later).
@rem Put this file into a folder of your PATH under this name, in PowerShell:
@rem
@rem   kubectl k3s-token completion | Set-Content ` + completionShim + `.cmd
@set NoDefaultCurrentDirectoryInExePath=1
@` + BinaryName + `.exe ` + cobra.ShellCompRequestCmd + ` %*
`

func newCompletionCommand(env *Env) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:                   "completion [bash|zsh|fish|powershell]",
		DisableFlagsInUseLine: true,
		Short:                 "Print what makes TAB complete commands, flags and token ids",
		Long: `
			Without an argument, print the small program that kubectl (1.26 or later) calls
			to complete what is typed after "kubectl k3s-token". It belongs into a folder of
			your PATH, under the name ` + completionShim + ` (on Windows
			` + completionShim + `.cmd); kubectl's own completion must be set
			up in your shell. A link of that name to the plugin's binary does as well.

			With the name of a shell, print a completion script for the plugin's binary,
			` + BinaryName + `, for those who call it without kubectl.`,
		Example: `
			# Completion for "kubectl k3s-token"
			kubectl k3s-token completion > ~/.local/bin/` + completionShim + `
			chmod +x ~/.local/bin/` + completionShim + `

			# Completion for the bare binary, in this bash
			source <(kubectl k3s-token completion bash)`,
		Args:      atMostOneShell,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, program := CompletionShim(runtime.GOOS)
				return env.writeResult([]byte(program))
			}
			var script strings.Builder
			var err error
			switch root := cmd.Root(); args[0] {
			case "bash":
				err = root.GenBashCompletionV2(&script, true)
			case "zsh":
				err = root.GenZshCompletion(&script)
			case "fish":
				err = root.GenFishCompletion(&script, true)
			case "powershell":
				err = root.GenPowerShellCompletionWithDesc(&script)
			default:
				err = fmt.Errorf("unknown shell: use %s, or none for kubectl's completion", strings.Join(shells, ", "))
			}
			return errors.Join(err, writeScript(env, script.String()))
		},
	}
	return cmd
}

func atMostOneShell(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%d arguments given: it takes the name of one shell at most", len(args))
	}
	return nil
}

func writeScript(env *Env, script string) error {
	if script == "" {
		return nil
	}
	return env.writeResult([]byte(script))
}

// completeValues offers fixed values for a flag.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
}

// completeKubeconfig offers the names that stand in the kubeconfig.
func completeKubeconfig(cmd *cobra.Command, client *clientFlags) {
	names := func(of func() ([]string, error)) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			names, err := of()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			// Nobody can type what does not print, and shells would show it raw.
			names = slices.DeleteFunc(names, func(name string) bool { return printable(name) != name })
			slices.Sort(names)
			return names, cobra.ShellCompDirectiveNoFileComp
		}
	}
	must(cmd.RegisterFlagCompletionFunc("context", names(client.contexts)))
	must(cmd.RegisterFlagCompletionFunc("cluster", names(client.clusters)))
	must(cmd.RegisterFlagCompletionFunc("user", names(client.users)))
}

// completeTokens offers the ids of the cluster's tokens, each with what tells
// it from the others. Those that the line names already, by whatever name, are
// left out.
func completeTokens(client *clientFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		conn, err := client.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionBound)
		defer cancel()
		named := map[string]bool{}
		for _, arg := range args {
			if ref, err := bootstrap.ParseRef(arg); err == nil {
				named[ref.SecretName] = true
			}
		}
		var offers []string
		err = conn.tokens().List(ctx, bootstrap.AllAtOnce, func(t *bootstrap.Token) error {
			if strings.HasPrefix(t.ID, toComplete) && !named[t.SecretName] {
				ttl, _ := lifetime(t, conn.clock.Now())
				offers = append(offers, cobra.CompletionWithDesc(t.ID, fmt.Sprintf("%s, %s", ttl, orNone(t.Description))))
			}
			return nil
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offers, cobra.ShellCompDirectiveNoFileComp
	}
}

// must is for registrations that fail only where this program is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
