// Package inspect is the verb inspect: the parts of a token, without its secret.
package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Options are those of inspect.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags

	TokenFile string
	CAFile    string
}

// NewCommand returns the verb inspect.
func NewCommand(streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Print: cmdutil.NewPrintFlags(cmdutil.Text(text))}
	cmd := &cobra.Command{
		Use:   "inspect (TOKEN | - | --token-file FILE)",
		Short: "Describe a token offline, without its secret",
		Long: templates.LongDesc(`
			Describe a token: its format, type, id and CA hash, or the part that is malformed.
			The secret is never shown. "-" and --token-file keep it out of the list of processes.`),
		Example: templates.Examples(`
			# Describe a token in a file, such as a server's node-token
			kubectl k3s-token inspect --token-file node-token

			# Check whether the token belongs to a CA
			kubectl k3s-token inspect --token-file node-token --ca-file server-ca.crt`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			t, err := o.ReadOneToken(cmd.Context(), args, "", o.TokenFile)
			return o.Run(cmd.Context(), t, err, printer)
		},
	}
	flags := cmd.Flags()
	flags.Var(cmdutil.NonEmpty(&o.TokenFile), "token-file", "File with the token. Without TOKEN and this flag, "+cmdutil.EnvToken+" is read.")
	flags.Var(cmdutil.NonEmpty(&o.CAFile), "ca-file", "File with CA certificates, to compare the token's CA hash with.")
	o.Print.AddFlags(cmd)
	return cmd
}

// Run prints a description of the token. The problem is the error of its parser, and is
// printed too.
func (o *Options) Run(ctx context.Context, t token.Token, problem error, printer printers.ResourcePrinter) error {
	info := v1alpha1.NewTokenInfo(t)
	malformed, ok := errors.AsType[*token.ParseError](problem)
	switch {
	case ok:
		info = &v1alpha1.TokenInfo{Problem: malformed.Error(), Hint: malformed.Hint()}
	case problem != nil:
		return problem
	case o.CAFile != "":
		problem = compareCA(info, o.CAFile)
	}
	return errors.Join(o.Streams.Print(ctx, printer, info), problem)
}

// compareCA compares the CA hash of a token with that of a file.
func compareCA(info *v1alpha1.TokenInfo, file string) error {
	ca, err := cluster.ReadCAFile(file)
	switch {
	case err != nil:
		return err
	case info.CAHash == "":
		return errors.New("the token has no CA hash to compare with --ca-file")
	}
	info.CAMatches = new(info.CAHash == ca.Hash)
	if !*info.CAMatches {
		return fmt.Errorf("the token is for another CA; that of --ca-file has the hash %s", ca.Hash)
	}
	return nil
}

func text(info *v1alpha1.TokenInfo) (string, error) {
	var lines strings.Builder
	add := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&lines, "%-13s%s\n", name+":", value)
		}
	}
	add("Well-formed", yesNo(info.WellFormed))
	add("Problem", info.Problem)
	if info.WellFormed {
		add("Format", info.Format)
		add("Type", cmdutil.TokenKind(token.Type(info.Type)))
		add("ID", info.ID)
		add("CA hash", cmp.Or(info.CAHash, "none: a node that joins with the token trusts any server"))
		if info.CAMatches != nil {
			add("CA matches", yesNo(*info.CAMatches))
		}
		add("Hint", info.Hint)
	}
	return lines.String(), nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
