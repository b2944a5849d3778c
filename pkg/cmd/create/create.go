// Package create is the verb create: a new bootstrap token, printed once.
package create

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/cli-runtime/pkg/printers"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	defaultTTL = 24 * time.Hour
	maxCount   = 10_000
)

// Options are those of create.
type Options struct {
	cmdutil.Streams
	Print  *cmdutil.PrintFlags
	Expiry cmdutil.Expiry
	DryRun cmdutil.DryRun

	Description string
	Groups      []string
	Usages      []string
	Labels      string
	CAFile      string
	Format      string
	OutputFile  string
	Join        string
	URL         string
	Count       int

	given token.Token // the user's own token; none if it is to be generated
	facts facts
}

// NewCommand returns the verb create.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams}
	o.Print = cmdutil.NewPrintFlags().WithText(cmdutil.Each(o.printText))
	cmd := &cobra.Command{
		Use:   "create [TOKEN|-]",
		Short: "Create a bootstrap token and print it",
		Long: templates.LongDesc(`
			Create a bootstrap token in the cluster and print it in secure format,
			K10HASH::ID.SECRET. It is shown once.

			TOKEN is ID.SECRET, or "-" to read it from standard input, which keeps it out of
			the list of processes. Without it a random one is generated.`),
		Example: templates.Examples(`
			# Create a token that a node can join with during the next two hours
			kubectl k3s-token create --ttl 2h --description "rack 7"

			# Print the line to paste on the new machine
			kubectl k3s-token create --print-join-command --url https://k3s.example.com:6443

			# Create a token for each of forty machines, one a line
			kubectl k3s-token create --count 40 --ttl 1d --labels rack=7 --output-file tokens.txt`),
		Args: cmdutil.AtMostOneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if err := o.Validate(cmd, args); err != nil {
				return err
			}
			if err := o.Complete(cmd.Context(), args); err != nil {
				return err
			}
			cluster, err := clients.Cluster()
			if err != nil {
				return err
			}
			store, err := clients.Tokens()
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), cluster, o.DryRun.Store(store), printer)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *Options) addFlags(cmd *cobra.Command) {
	o.Expiry.AddFlags(cmd, defaultTTL)
	flags := cmd.Flags()
	flags.StringVar(&o.Description, "description", "", "Description of the token, such as its machine.")
	flags.StringSliceVar(&o.Groups, "groups", nil, "Extra groups that the token authenticates as. (default "+bootstrap.GroupK3s+", or that of RKE2)")
	flags.StringSliceVar(&o.Usages, "usages", unique(bootstrapapi.KnownTokenUsages), "Usages of the token: authentication, which joining needs, and signing.")
	flags.StringVar(&o.Labels, "labels", "", "Labels of the token's Secret, such as rack=7,team=edge.")
	flags.StringVar(&o.CAFile, "ca-file", "", "File with the server's CA certificates (server/tls/server-ca.crt in its data directory), instead of asking the cluster.")
	flags.StringVar(&o.Format, "token-format", string(token.SecureFormat), "Format of the token: secure, or short, which has no CA hash.")
	flags.StringVar(&o.OutputFile, "output-file", "", "Write to this new file instead of standard output. Only its owner can read it.")
	flags.StringVar(&o.Join, "print-join-command", "", "Print what to paste on the new machine instead of the token: install, agent or config (a config.yaml). Write it with an equals sign.")
	flags.Lookup("print-join-command").NoOptDefVal = string(join.Install)
	flags.StringVar(&o.URL, "url", "", "Address that the new node dials, such as https://k3s.example.com:6443. (default the kubeconfig's)")
	flags.IntVar(&o.Count, "count", 1, fmt.Sprintf("How many tokens to create, at most %d.", maxCount))
	o.DryRun.AddFlags(cmd)
	o.Print.AddFlags(cmd)
	cmdutil.CompleteValues(cmd, "usages", bootstrapapi.KnownTokenUsages...)
	cmdutil.CompleteValues(cmd, "token-format", string(token.SecureFormat), string(token.ShortFormat))
	cmdutil.CompleteValues(cmd, "print-join-command", join.Kinds()...)
}

// Validate refuses what can be refused without a cluster.
func (o *Options) Validate(cmd *cobra.Command, args []string) error {
	if err := cmdutil.RefuseEmpty(cmd, "ca-file", "output-file", "url", "print-join-command"); err != nil {
		return err
	}
	joins := o.Join != ""
	switch {
	case o.Count < 1 || o.Count > maxCount:
		return fmt.Errorf("--count %d: must be between 1 and %d", o.Count, maxCount)
	case o.Count > 1 && (len(args) > 0 || o.Join == string(join.Config)):
		return errors.New("--count goes with neither TOKEN nor --print-join-command=config")
	case o.Format != string(token.SecureFormat) && o.Format != string(token.ShortFormat):
		return fmt.Errorf("--token-format %q: must be secure or short", o.Format)
	case joins && !slices.Contains(join.Kinds(), o.Join):
		return fmt.Errorf("--print-join-command=%s: must be one of %s", o.Join, strings.Join(join.Kinds(), ", "))
	case joins && !o.Print.IsText():
		return errors.New("choose one of --print-join-command and --output")
	case joins && len(args) > 0 && slices.Contains(join.Kinds(), args[0]):
		return cmdutil.WithHint(fmt.Errorf("%q is not a token", args[0]), "write --print-join-command=%s", args[0])
	}
	return o.DryRun.Validate()
}

// Complete reads the user's own token, if there is one.
func (o *Options) Complete(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text, err := o.ReadToken(ctx, args[0])
	if err != nil {
		return err
	}
	if strings.HasPrefix(text, "K10") {
		return cmdutil.WithHint(errors.New("malformed TOKEN: it is in secure format"), "give ID.SECRET alone; the CA hash is computed")
	}
	if o.given, err = token.ParseBootstrap(text); err != nil {
		return fmt.Errorf("malformed TOKEN: %w", err)
	}
	return nil
}

// Run creates the tokens and delivers them, or removes them again. What can fail
// without a token in the cluster fails first.
func (o *Options) Run(ctx context.Context, c Cluster, store Store, printer printers.ResourcePrinter) error {
	t, err := o.newToken()
	if err != nil {
		return err
	}
	if err := o.gather(ctx, c); err != nil {
		return err
	}
	switch {
	case o.Groups != nil: // the user's choice
	case o.facts.join.Distribution == supervisor.RKE2:
		t.Groups = []string{bootstrap.GroupRKE2}
	default:
		t.Groups = []string{bootstrap.GroupK3s}
	}
	if err := o.rehearse(t); err != nil {
		return err
	}
	var file *cmdutil.OutputFile
	if o.OutputFile != "" {
		if file, err = cmdutil.CreateOutputFile("output-file", o.OutputFile); err != nil {
			return err
		}
		defer file.Discard() //nolint:errcheck // an empty file may stay
	}
	if status, reason := t.Status(time.Now()); status == bootstrap.Unusable {
		o.Warnf("no node can join with the token: %s", reason)
	}
	made, lost, failure := o.create(ctx, store, t)
	undelivered := o.deliver(ctx, printer, file, made)
	switch {
	case undelivered != nil:
		lost = append(lost, made...)
	case failure != nil && o.Count > 1:
		failure = errors.Join(failure, fmt.Errorf("%d of %d tokens were created", len(made), o.Count))
	}
	return errors.Join(failure, undelivered, o.undo(ctx, store, lost))
}

// newToken returns the token to create. If it is not given, it gets its id and
// secret when it is created.
func (o *Options) newToken() (*bootstrap.Token, error) {
	expires, err := o.Expiry.At(time.Now())
	if err != nil {
		return nil, err
	}
	labels, err := labels.ConvertSelectorToLabelsMap(o.Labels)
	if err != nil || len(metav1validation.ValidateLabels(labels, nil)) > 0 {
		return nil, cmdutil.WithHint(errors.New("--labels: malformed label"), "write KEY=VALUE, several separated by commas")
	}
	t := &bootstrap.Token{
		Token:       o.given,
		Expires:     expires,
		Description: o.Description,
		Groups:      unique(o.Groups),
		Usages:      unique(o.Usages),
		Labels:      labels,
	}
	return t, t.Validate()
}

// unique returns the values in order, each once.
func unique(values []string) []string { return sets.List(sets.New(values...)) }
