package cmd

import (
	"fmt"

	"github.com/spf13/cobra"
)

// dryRun says how far a command goes that would change the cluster. It is a
// pflag.Value.
type dryRun string

const (
	dryRunNone   dryRun = ""
	dryRunClient dryRun = "client"
	dryRunServer dryRun = "server"
)

// addFlags adds --dry-run, as kubectl has it.
func (d *dryRun) addFlags(cmd *cobra.Command) {
	cmd.Flags().Var(d, "dry-run", `Must be "none", "server", or "client". If client strategy, only print what would be done, without sending it. If server strategy, submit server-side request without persisting the resource.`)
	completeValues(cmd, "dry-run", "none", "server", "client")
}

// Set implements pflag.Value.
func (d *dryRun) Set(s string) error {
	switch s {
	case "none":
		*d = dryRunNone
	case "client", "server":
		*d = dryRun(s)
	default:
		return fmt.Errorf(`it takes "none", "server", or "client"`)
	}
	return nil
}

// String implements pflag.Value.
func (d *dryRun) String() string {
	if *d == dryRunNone {
		return "none"
	}
	return string(*d)
}

// Type implements pflag.Value.
func (*dryRun) Type() string { return "string" }

// suffix is what a message of a dry run ends in, as kubectl's do.
func (d *dryRun) suffix() string {
	switch *d {
	case dryRunClient:
		return " (dry run)"
	case dryRunServer:
		return " (server dry run)"
	}
	return ""
}
