// Package inspect is the verb inspect: what a token is, without its secret.
package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
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
	o := &Options{Streams: streams, Print: cmdutil.NewPrintFlags().WithText(printText)}
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
		Args: cmdutil.AtMostOneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if err := cmdutil.RefuseEmpty(cmd, "token-file", "ca-file"); err != nil {
				return err
			}
			text, err := o.read(cmd.Context(), args)
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), text, printer)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.TokenFile, "token-file", "", "File with the token.")
	flags.StringVar(&o.CAFile, "ca-file", "", "File with CA certificates, to compare the token's CA hash with.")
	o.Print.AddFlags(cmd)
	return cmd
}

func (o *Options) read(ctx context.Context, args []string) (string, error) {
	switch {
	case len(args) == 1 && o.TokenFile != "":
		return "", errors.New("choose one of TOKEN and --token-file")
	case len(args) == 1:
		return o.ReadToken(ctx, args[0])
	case o.TokenFile != "":
		return cmdutil.ReadTokenFile(ctx, o.TokenFile)
	}
	return "", cmdutil.WithHint(errors.New("no token given"), `give a TOKEN, "-" to read standard input, or --token-file`)
}

// Run describes the token. A malformed one is described too, and is an error.
func (o *Options) Run(ctx context.Context, text string, printer printers.ResourcePrinter) error {
	t, malformed := token.Parse(text)
	info := &v1alpha1.TokenInfo{}
	if malformed != nil {
		info.Problem = malformed.Error()
		malformed = fmt.Errorf("malformed token: %w", malformed)
	} else {
		info = v1alpha1.NewTokenInfo(t)
	}
	var mismatch error
	if o.CAFile != "" && malformed == nil {
		ca, err := cluster.ReadCAFile(o.CAFile)
		if err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
		if info.CAHash == "" {
			mismatch = errors.New("the token has no CA hash to compare with --ca-file")
		} else if info.CAMatches = new(info.CAHash == ca.Hash); !*info.CAMatches {
			mismatch = fmt.Errorf("the token is for another CA; that of --ca-file has the hash %s", ca.Hash)
		}
	}
	return errors.Join(o.Streams.Print(ctx, printer, info), malformed, mismatch)
}

func printText(obj runtime.Object, w io.Writer) error {
	info := obj.(*v1alpha1.TokenInfo)
	lines := [][2]string{{"Well-formed", yesNo(&info.WellFormed)}, {"Problem", info.Problem}}
	if info.WellFormed {
		lines = append(lines, [][2]string{
			{"Format", info.Format},
			{"Type", cmdutil.TokenKind(token.Type(info.Type))},
			{"ID", info.ID},
			{"User", info.User},
			{"CA hash", cmp.Or(info.CAHash, "none: a node that joins with the token trusts any server")},
			{"CA matches", yesNo(info.CAMatches)},
			{"Hint", info.Hint},
		}...)
	}
	for _, line := range lines {
		if line[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-13s%s\n", line[0]+":", line[1]); err != nil {
			return err
		}
	}
	return nil
}

func yesNo(b *bool) string {
	if b == nil {
		return ""
	}
	return map[bool]string{true: "yes", false: "no"}[*b]
}
