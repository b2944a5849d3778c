// Package generate is the verb generate: a token offline.
package generate

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const maxCount = 10_000

// Options are those of generate.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags

	Type   token.Type
	CAFile string
	Count  int
}

// NewCommand returns the verb generate.
func NewCommand(streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Type: token.Bootstrap}
	o.Print = cmdutil.NewPrintFlags(cmdutil.Text(text))
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Generate a token offline",
		Long: templates.LongDesc(`
			Generate a random token, which no cluster knows yet. A bootstrap token is for
			"create -". A server token is for --token of a new server.`),
		Example: templates.Examples(`
			# Generate a bootstrap token, ID.SECRET
			kubectl k3s-token generate

			# Generate the server token of a new cluster
			kubectl k3s-token generate --type server

			# Generate a token in secure format, for a CA that exists already
			kubectl k3s-token generate --ca-file server-ca.crt`),
		Args: cobra.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if o.Count < 1 || o.Count > maxCount {
				return fmt.Errorf("--count %d: must be between 1 and %d", o.Count, maxCount)
			}
			return o.Run(cmd.Context(), printer)
		},
	}
	flags := cmd.Flags()
	cmdutil.AddChoice(cmd, &o.Type, "type", "Type of the token: bootstrap or server.", string(token.Bootstrap), string(token.Server))
	flags.IntVar(&o.Count, "count", 1, fmt.Sprintf("How many tokens to generate, at most %d.", maxCount))
	flags.Var(cmdutil.NonEmpty(&o.CAFile), "ca-file", "File with the server's CA certificates (server/tls/server-ca.crt in its data directory), to print the token in secure format.")
	o.Print.AddFlags(cmd)
	return cmd
}

// Run generates the tokens and prints them.
func (o *Options) Run(ctx context.Context, printer printers.ResourcePrinter) error {
	var ca cluster.CA
	if o.CAFile != "" {
		var err error
		if ca, err = cluster.ReadCAFile(o.CAFile); err != nil {
			return err
		}
	}
	list := &v1alpha1.GeneratedTokenList{Items: make([]v1alpha1.GeneratedToken, o.Count)}
	for i := range list.Items {
		t := token.Token{User: token.UserServer, Secret: token.GeneratePassword()}
		if o.Type == token.Bootstrap {
			t = bootstrap.Generate()
		}
		t = t.WithCAHash(ca.Hash)
		list.Items[i] = v1alpha1.GeneratedToken{Type: string(o.Type), ID: t.ID, Token: t.Reveal(), CAHash: t.CAHash}
	}
	if o.Count == 1 {
		return o.Streams.Print(ctx, printer, &list.Items[0])
	}
	return o.Streams.Print(ctx, printer, list)
}

func text(t *v1alpha1.GeneratedToken) (string, error) { return t.Token + "\n", nil }
