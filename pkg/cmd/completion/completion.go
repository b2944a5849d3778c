// Package completion is the verb completion: cobra's scripts for shells, and the
// program that completes the plugin below kubectl.
package completion

import (
	"runtime"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

const (
	// Shim is the name of the program that kubectl (1.26 or later) looks for in
	// PATH, to complete the words after "kubectl k3s-token".
	Shim = "kubectl_complete-k3s_token"

	unixShim = `#!/bin/sh
# kubectl (1.26 or later) runs this file to complete "kubectl k3s-token".
exec kubectl-k3s_token ` + cobra.ShellCompRequestCmd + ` "$@"
`
	// The variable keeps cmd from running a file of that name in the current
	// folder.
	windowsShim = `@rem kubectl (1.26 or later) runs this file to complete "kubectl k3s-token".
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

// AddCommand adds cobra's completion command to the root, and has it print the
// program for kubectl if no shell is named.
func AddCommand(root *cobra.Command, streams cmdutil.Streams) {
	root.InitDefaultCompletionCmd()
	cmd, _, _ := root.Find([]string{"completion"})
	cmd.Short = "Print shell completion"
	cmd.Long = templates.LongDesc(`
		Print the small program that kubectl (1.26 or later) calls to complete what is
		typed after "kubectl k3s-token". It belongs in a folder of your PATH, under the
		name ` + Shim + ` (on Windows ` + Shim + `.cmd).

		With the name of a shell, print a script for those who call the plugin's binary
		without kubectl.`)
	cmd.Example = templates.Examples(`
		# Set up completion for "kubectl k3s-token"
		kubectl k3s-token completion > ~/.local/bin/` + Shim + `
		chmod +x ~/.local/bin/` + Shim + `

		# Set up completion for the bare binary, in this bash
		source <(kubectl k3s-token completion bash)`)
	cmd.Args = cobra.ExactArgs(0)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, content := ShimFor(runtime.GOOS)
		return streams.Write(cmd.Context(), []byte(content))
	}
}
