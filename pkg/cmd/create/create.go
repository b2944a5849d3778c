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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/machine"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	maxCount = 10_000

	// removeTimeout is how long remove tries.
	removeTimeout = 30 * time.Second
)

// Store has the methods of a bootstrap.Store that create uses.
type Store interface {
	Create(ctx context.Context, t *bootstrap.Token) error
	Undo(ctx context.Context, t *bootstrap.Token) error
}

// Options are those of create.
type Options struct {
	cmdutil.Streams
	machine.Flags
	Print  *cmdutil.PrintFlags
	DryRun cmdutil.DryRun
	Wait   Wait

	Token      bootstrap.Token // the model of all: its id and secret are the given ones, or empty
	Format     string          // "secure" or "short"
	OutputFile string
	Join       join.Format
	Count      int
}

// NewCommand returns the verb create.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Format: "secure"}
	o.Print = cmdutil.NewPrintFlags(cmdutil.Text(o.text))
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
			return o.Run(cmd.Context(), cluster, o.DryRun.Store(store), printer)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *Options) addFlags(cmd *cobra.Command) {
	cmdutil.AddExpiryFlags(cmd, &o.Token.Expires, "24h")
	flags := cmd.Flags()
	flags.StringVar(&o.Token.Description, "description", "", "Description of the token, such as its machine.")
	flags.StringSliceVar(&o.Token.Groups, "groups", nil, "Extra groups that the token authenticates as. (default "+bootstrap.GroupK3s+", or that of RKE2)")
	flags.StringSliceVar(&o.Token.Usages, "usages", bootstrapapi.KnownTokenUsages, "Usages of the token: authentication, which joining needs, and signing.")
	flags.StringToStringVar(&o.Token.Labels, "labels", nil, "Labels of the token's Secret, such as rack=7,team=edge.")
	cmdutil.AddChoice(cmd, &o.Format, "token-format", "Format of the token: secure, or short, which has no CA hash.", "secure", "short")
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
	case o.Wait.On && o.DryRun != cmdutil.DryRunNone:
		return errors.New("--wait does not go with --dry-run")
	case o.Wait.Timeout <= 0:
		return errors.New("--wait-timeout must be longer than zero")
	}
	if !o.Wait.On {
		if err := cmdutil.RefuseWithout(cmd, "wait", "wait-timeout", "delete-after-join", "delete-on-interrupt"); err != nil {
			return err
		}
	}
	if o.Join == "" {
		return cmdutil.RefuseWithout(cmd, "print-join-command", "node-name", "node-label", "node-taint", "install-url", "install-mirror")
	}
	return o.Params.Validate(o.Join)
}

// Complete reads the address that nodes dial and the user's own token, as far as they
// are given.
func (o *Options) Complete(ctx context.Context, args []string) (err error) {
	if err := o.Flags.Complete(); err != nil {
		return err
	}
	if len(metav1validation.ValidateLabels(o.Token.Labels, nil)) > 0 {
		return hint.New("--labels: malformed label", "write KEY=VALUE, several separated by commas")
	}
	if len(args) > 0 {
		if o.Token.Token, err = o.readToken(ctx, args[0]); err != nil {
			return err
		}
	}
	return o.Token.Validate()
}

// readToken reads the user's own token from the argument or standard input.
func (o *Options) readToken(ctx context.Context, arg string) (token.Token, error) {
	text, err := o.ReadToken(ctx, arg)
	if err != nil {
		return token.Token{}, err
	}
	given, err := token.ParseBootstrap(text)
	if err != nil {
		err = fmt.Errorf("malformed TOKEN: %w", err)
	}
	switch {
	case strings.HasPrefix(text, "K10"):
		err = hint.New("malformed TOKEN: it is in secure format", "give ID.SECRET alone; the CA hash is computed")
	case err != nil && (o.Join != "" || o.Wait.On):
		err = hint.Wrap(err, "write --print-join-command=FORMAT and --wait=NODE with an equals sign")
	}
	return given, err
}

// Run creates the tokens and delivers them, or removes them again, and then waits for
// their nodes. All checks that need no token in the cluster come first.
func (o *Options) Run(ctx context.Context, c *cluster.Cluster, store Store, printer printers.ResourcePrinter) (err error) {
	if err := o.gather(ctx, c); err != nil {
		return err
	}
	if err := o.rehearse(); err != nil {
		return err
	}
	var waiter *join.Waiter
	if o.Wait.On {
		if waiter, err = join.NewWaiter(ctx, c.Client.Nodes()); err != nil {
			return err
		}
	}
	result := o.Streams
	if o.OutputFile != "" && o.DryRun == cmdutil.DryRunNone {
		file, err := cmdutil.CreateOutputFile("output-file", o.OutputFile)
		if err != nil {
			return err
		}
		defer file.Discard()
		result.Out = file
	}
	if status, reason := o.Token.Status(time.Now()); status == bootstrap.Unusable {
		o.Warnf("no node can join with the token: %s", reason)
	}
	made, lost, failure := o.create(ctx, store)
	undelivered := o.deliver(ctx, result, printer, made)
	switch {
	case undelivered != nil:
		lost = append(lost, made...)
	case failure == nil && waiter != nil:
		return o.wait(ctx, waiter, store, made)
	case failure != nil && o.Count > 1 && o.DryRun == cmdutil.DryRunNone:
		failure = errors.Join(failure, fmt.Errorf("%d of %d tokens were created", len(made), o.Count))
	}
	return errors.Join(failure, undelivered, o.undo(ctx, store, lost))
}

// gather asks the cluster for the facts that the command needs, and sets the groups of
// the token.
func (o *Options) gather(ctx context.Context, c *cluster.Cluster) error {
	err := o.Gather(ctx, c, o.Streams, machine.Need{
		CA:  o.Format == "secure" || !o.Print.IsText(),
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

// create returns the tokens that it made, those that may exist since the answer was
// lost, and why others do not.
func (o *Options) create(ctx context.Context, store Store) (made, lost []*bootstrap.Token, _ error) {
	tokens := make([]bootstrap.Token, o.Count)
	results := cmdutil.ForEach(ctx, o.Count, func(i int) error {
		tokens[i] = o.Token
		if o.DryRun != cmdutil.DryRunClient {
			return store.Create(ctx, &tokens[i])
		}
		if o.Token.ID == "" {
			tokens[i].Token = bootstrap.Generate()
		}
		tokens[i] = *bootstrap.FromSecret(bootstrap.EncodeSecret(&tokens[i]))
		return nil
	})
	var errs []error
	for i, err := range results {
		_, uncertain := errors.AsType[*bootstrap.UncertainError](err)
		switch {
		case err == nil:
			made = append(made, &tokens[i])
			continue
		case uncertain:
			lost = append(lost, &tokens[i])
		case apierrors.IsAlreadyExists(err):
			err = hint.Wrap(fmt.Errorf("token %q already exists", o.Token.ID), "choose another id, or leave TOKEN out to have one generated")
		}
		errs = append(errs, err)
	}
	if len(lost) > 0 && o.DryRun == cmdutil.DryRunNone {
		errs = append(errs, remaining("perhaps created, since the answer was lost", lost))
	}
	return made, lost, errors.Join(errs...)
}

// deliver writes the tokens to the streams of the result, or returns why they have not
// reached the user.
func (o *Options) deliver(ctx context.Context, result cmdutil.Streams, printer printers.ResourcePrinter, made []*bootstrap.Token) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(made) == 0 {
		return nil
	}
	o.WarnAboutExpiry(made[0].Updated, made[0].Expires)
	err := result.Print(ctx, printer, o.object(made))
	switch {
	case err != nil:
		return fmt.Errorf("the token could not be written out: %v", err) //nolint:errorlint // a broken pipe is an error here
	case o.DryRun != cmdutil.DryRunNone:
		o.Notef("%s not created%s", cmdutil.CountTokens(len(made)), o.DryRun.Suffix())
	case o.OutputFile != "":
		o.Notef("%s written to %s", cmdutil.CountTokens(len(made)), o.OutputFile)
	}
	return nil
}

// undo removes tokens that did not reach the user.
func (o *Options) undo(ctx context.Context, store Store, tokens []*bootstrap.Token) error {
	if len(tokens) == 0 || o.DryRun != cmdutil.DryRunNone {
		return nil
	}
	o.Notef("removing %s that you have not seen", cmdutil.CountTokens(len(tokens)))
	return remove(ctx, store, tokens)
}

// remove removes tokens, also after an interrupt, and names those that may be left.
func remove(ctx context.Context, store Store, tokens []*bootstrap.Token) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	errs := cmdutil.ForEach(ctx, len(tokens), func(i int) error { return store.Undo(ctx, tokens[i]) })
	var left []*bootstrap.Token
	for i, err := range errs {
		if err != nil {
			left = append(left, tokens[i])
		}
	}
	if len(left) == 0 {
		return nil
	}
	return errors.Join(append(errs, remaining("not removed", left))...)
}

// remaining names tokens that the cluster may hold although they are not wanted.
func remaining(state string, tokens []*bootstrap.Token) error {
	return hint.Wrap(fmt.Errorf("%s %s: %s", cmdutil.CountTokens(len(tokens)), state, ids(tokens)),
		"run later: kubectl k3s-token delete --ignore-not-found %s", ids(tokens))
}

func ids(tokens []*bootstrap.Token) string {
	ids := make([]string, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	return strings.Join(ids, " ")
}

// rehearse prints a sample, so that a template that does not fit is found before
// there is a token. It warns of one that leaves the secret out.
func (o *Options) rehearse() error {
	sample := o.Token
	sample.Token = token.Token{ID: "aaaaaa", Secret: "aaaaaaaaaaaaaaaa"}
	shown, err := o.Print.Rehearse(o.object(slices.Repeat([]*bootstrap.Token{&sample}, o.Count)), sample.Secret)
	if err == nil && !shown && o.Token.ID == "" {
		o.Warnf("the output leaves out the token's secret, which is not shown again: add .token to it")
	}
	return err
}

// object returns the object to print: the token, or a list with --count.
func (o *Options) object(tokens []*bootstrap.Token) runtime.Object {
	list := v1alpha1.NewBootstrapTokenList(tokens, time.Now())
	for i, t := range tokens {
		full := t.Token
		if o.Format == "secure" {
			full = full.WithCAHash(o.CA.Hash)
		}
		item := &list.Items[i]
		item.Token, item.CAHash, item.Server = full.Reveal(), o.CA.Hash, o.Params.URL.String()
	}
	if o.Count == 1 {
		return &list.Items[0]
	}
	return list
}

// text returns the token, or the text to paste on the new machine.
func (o *Options) text(t *v1alpha1.BootstrapToken) (string, error) {
	if o.Join == "" {
		return t.Token + "\n", nil
	}
	params := o.Params
	var err error
	if params.Token, err = token.Parse(t.Token); err != nil {
		return "", err
	}
	command, err := join.Command(o.Join, params)
	return command + "\n", err
}
