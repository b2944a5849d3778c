// Package completion is the verb completion: what makes TAB complete commands,
// flags and token ids.
package completion

import (
	"bytes"
	"errors"
	"runtime"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

const (
	// Shim is the program that kubectl (1.26 or later) looks for in PATH to
	// complete what is typed after "kubectl k3s-token".
	Shim = "kubectl_complete-k3s_token"

	unixShim = `#!/bin/sh
# Completion of "kubectl k3s-token" (kubectl 1.26 or later).
# Put this file into a folder of your PATH under the name ` + Shim + `
# and make it executable:
#
#   kubectl k3s-token completion > ~/.local/bin/` + Shim + `
#   chmod +x ~/.local/bin/` + Shim + `
exec kubectl-k3s_token ` + cobra.ShellCompRequestCmd + ` "$@"
`
	// The variable keeps cmd from running a file of that name in the current
	// folder.
	windowsShim = `@rem Completion of "kubectl k3s-token" (kubectl 1.26 or later).
@rem Put this file into a folder of your PATH under this name, in PowerShell:
@rem
@rem   kubectl k3s-token completion | Set-Content ` + Shim + `.cmd
@set NoDefaultCurrentDirectoryInExePath=1
@kubectl-k3s_token.exe ` + cobra.ShellCompRequestCmd + ` %*
`
)

// ShimFor returns the name and the content of the program for an operating
// system, a value of runtime.GOOS.
func ShimFor(goos string) (name, content string) {
	if goos == "windows" {
		return Shim + ".cmd", windowsShim
	}
	return Shim, unixShim
}

// NewCommand returns the verb completion.
func NewCommand(streams cmdutil.Streams) *cobra.Command {
	return &cobra.Command{
		Use:                   "completion [bash|zsh|fish|powershell]",
		DisableFlagsInUseLine: true,
		Short:                 "Print what makes TAB complete commands, flags and token ids",
		Long: templates.LongDesc(`
			Without an argument, print the small program that kubectl (1.26 or later) calls
			to complete what is typed after "kubectl k3s-token". It belongs into a folder of
			your PATH, under the name ` + Shim + ` (on Windows
			` + Shim + `.cmd). kubectl's own completion must be set
			up in your shell. A link of that name to the plugin's binary does as well.

			With the name of a shell, print a completion script for the plugin's binary,
			kubectl-k3s_token, for those who call it without kubectl.`),
		Example: templates.Examples(`
			# Set up completion for "kubectl k3s-token"
			kubectl k3s-token completion > ~/.local/bin/` + Shim + `
			chmod +x ~/.local/bin/` + Shim + `

			# Set up completion for the bare binary, in this bash
			source <(kubectl k3s-token completion bash)`),
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var script bytes.Buffer
			if len(args) == 0 {
				_, content := ShimFor(runtime.GOOS)
				script.WriteString(content)
			} else if err := generate(cmd.Root(), args[0], &script); err != nil {
				return err
			}
			return streams.Write(cmd.Context(), script.Bytes())
		},
	}
}

func generate(root *cobra.Command, shell string, script *bytes.Buffer) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(script, true)
	case "zsh":
		return root.GenZshCompletion(script)
	case "fish":
		return root.GenFishCompletion(script, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(script)
	}
	return errors.New("unknown shell: must be bash, zsh, fish or powershell")
}
