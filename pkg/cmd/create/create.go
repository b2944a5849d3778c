// Package create is the verb create: a new bootstrap token, printed once.
package create

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/cli-runtime/pkg/printers"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/machine"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
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
	machine.Flags
	Print  *cmdutil.PrintFlags
	Expiry cmdutil.Expiry
	DryRun cmdutil.DryRun
	Wait   Wait

	Token      bootstrap.Token // the model of all: its id and secret are the given ones, or empty
	Format     token.Format
	OutputFile string
	Join       join.Format
	Count      int
}

// NewCommand returns the verb create.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Format: token.SecureFormat}
	o.Print = cmdutil.NewPrintFlags().WithText(cmdutil.Each(o.printText))
	cmd := &cobra.Command{
		Use:   "create [TOKEN|-]",
		Short: "Create a bootstrap token and print it",
		Long: templates.LongDesc(`
			Create a bootstrap token in the cluster and print it in secure format,
			K10HASH::ID.SECRET. It is shown once. With --wait the command goes on until a node
			has joined and is Ready.

			TOKEN is ID.SECRET, or "-" to read it from standard input, which keeps it out of
			the list of processes. Without TOKEN a random one is generated.`),
		Example: templates.Examples(`
			# Create a token that a node can join with during the next two hours
			kubectl k3s-token create --ttl 2h --description "rack 7"

			# Print the line to paste on the new machine, and wait until its node is Ready
			kubectl k3s-token create --wait --print-join-command --url https://k3s.example.com:6443

			# The same, with a token for one use, as user data for a machine named worker-1
			kubectl k3s-token create --wait=worker-1 --delete-after-join --print-join-command=cloud-init --node-name worker-1

			# Create a token for each of forty machines, one a line
			kubectl k3s-token create --count 40 --ttl 1d --labels rack=7 --output-file tokens.txt`),
		Args: cobra.MaximumNArgs(1),
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
			return o.Run(cmd.Context(), cluster, cluster.Client.Nodes(), o.DryRun.Store(store), printer)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *Options) addFlags(cmd *cobra.Command) {
	o.Expiry.AddFlags(cmd, defaultTTL)
	flags := cmd.Flags()
	flags.StringVar(&o.Token.Description, "description", "", "Description of the token, such as its machine.")
	flags.StringSliceVar(&o.Token.Groups, "groups", nil, "Extra groups that the token authenticates as. (default "+bootstrap.GroupK3s+", or that of RKE2)")
	flags.StringSliceVar(&o.Token.Usages, "usages", bootstrapapi.KnownTokenUsages, "Usages of the token: authentication, which joining needs, and signing.")
	flags.StringToStringVar(&o.Token.Labels, "labels", nil, "Labels of the token's Secret, such as rack=7,team=edge.")
	cmdutil.AddChoice(cmd, &o.Format, "token-format", "Format of the token: secure, or short, which has no CA hash.",
		string(token.SecureFormat), string(token.ShortFormat))
	flags.Var(cmdutil.NonEmpty(&o.OutputFile), "output-file", "Write to this new file instead of standard output. Only its owner can read it.")
	cmdutil.AddChoice(cmd, &o.Join, "print-join-command",
		"Print what to paste on the new machine instead of the token: "+strings.Join(join.Formats(), ", ")+". Write the format with an equals sign.", join.Formats()...)
	flags.Lookup("print-join-command").NoOptDefVal = string(join.Install)
	flags.IntVar(&o.Count, "count", 1, fmt.Sprintf("How many tokens to create, at most %d.", maxCount))
	o.AddFlags(cmd)
	o.Wait.addFlags(cmd)
	o.DryRun.AddFlags(cmd)
	o.Print.AddFlags(cmd)
	cmdutil.CompleteValues(cmd, "usages", bootstrapapi.KnownTokenUsages...)
}

// Validate checks the arguments and the flags, without a cluster.
func (o *Options) Validate(cmd *cobra.Command, args []string) error {
	switch {
	case o.Count < 1 || o.Count > maxCount:
		return fmt.Errorf("--count %d: must be between 1 and %d", o.Count, maxCount)
	case o.Count > 1 && (len(args) > 0 || o.Params.NodeName != "" || o.Wait.Node != ""):
		return errors.New("--count goes with neither TOKEN nor the name of a node")
	case o.Params.NodeName != "" && o.Wait.Node != "" && o.Params.NodeName != o.Wait.Node:
		return errors.New("--wait and --node-name name different nodes")
	case o.Count > 1 && o.Join != "" && !o.Join.IsLine():
		return fmt.Errorf("--count does not go with --print-join-command=%s", o.Join)
	case o.Join != "" && !o.Print.IsText():
		return errors.New("choose one of --print-join-command and --output")
	}
	if err := o.Wait.validate(cmd, o.DryRun); err != nil {
		return err
	}
	return o.Flags.Validate(cmd, o.Join)
}

// Complete reads the address that nodes dial and the user's own token, as far as they
// are given.
func (o *Options) Complete(ctx context.Context, args []string) error {
	if err := o.Flags.Complete(); err != nil {
		return err
	}
	if len(metav1validation.ValidateLabels(o.Token.Labels, nil)) > 0 {
		return hint.New("--labels: malformed label", "write KEY=VALUE, several separated by commas")
	}
	if len(args) > 0 {
		given, err := o.readToken(ctx, args[0])
		if err != nil {
			return err
		}
		o.Token.Token = given
	}
	o.Token.Expires = o.Expiry.At(time.Now())
	return o.Token.Validate()
}

// readToken reads the user's own token from the argument or standard input.
func (o *Options) readToken(ctx context.Context, arg string) (token.Token, error) {
	text, err := o.ReadToken(ctx, arg)
	if err != nil {
		return token.Token{}, err
	}
	given, err := token.ParseBootstrap(text)
	switch {
	case strings.HasPrefix(text, "K10"):
		err = hint.New("malformed TOKEN: it is in secure format", "give ID.SECRET alone; the CA hash is computed")
	case err != nil && (o.Join != "" || o.Wait.On):
		err = hint.Wrap(fmt.Errorf("malformed TOKEN: %w", err), "write --print-join-command=FORMAT and --wait=NODE with an equals sign")
	case err != nil:
		err = fmt.Errorf("malformed TOKEN: %w", err)
	}
	return given, err
}

// Run creates the tokens and delivers them, or removes them again, and then waits for
// their nodes. All checks that need no token in the cluster come first.
func (o *Options) Run(ctx context.Context, c machine.Cluster, nodes join.Nodes, store Store, printer printers.ResourcePrinter) (err error) {
	if err := o.gather(ctx, c); err != nil {
		return err
	}
	if err := o.rehearse(); err != nil {
		return err
	}
	var waiter *join.Waiter
	if o.Wait.On {
		if waiter, err = join.NewWaiter(ctx, nodes); err != nil {
			return err
		}
	}
	var file *cmdutil.OutputFile
	if o.OutputFile != "" {
		if file, err = cmdutil.CreateOutputFile("output-file", o.OutputFile); err != nil {
			return err
		}
		defer file.Discard() //nolint:errcheck // an empty file may stay
	}
	if status, reason := o.Token.Status(time.Now()); status == bootstrap.Unusable {
		o.Warnf("no node can join with the token: %s", reason)
	}
	made, lost, failure := o.create(ctx, store)
	undelivered := o.deliver(ctx, printer, file, made)
	switch {
	case undelivered != nil:
		lost = append(lost, made...)
	case failure != nil && o.Count > 1:
		failure = errors.Join(failure, fmt.Errorf("%d of %d tokens were created", len(made), o.Count))
	case failure == nil && waiter != nil:
		return o.wait(ctx, waiter, store, made)
	}
	return errors.Join(failure, undelivered, o.undo(ctx, store, lost))
}

// gather asks the cluster for the facts that the command needs, and sets the groups of
// the token.
func (o *Options) gather(ctx context.Context, c machine.Cluster) error {
	err := o.Gather(ctx, c, o.Streams, machine.Need{
		CA:  o.Format == token.SecureFormat || !o.Print.IsText(),
		URL: o.Join != "" || o.URL != "", // an object can do without
	})
	switch {
	case o.Token.Groups != nil: // the user's choice
	case o.Params.Distribution == supervisor.RKE2:
		o.Token.Groups = []string{bootstrap.GroupRKE2}
	default:
		o.Token.Groups = []string{bootstrap.GroupK3s}
	}
	return err
}
