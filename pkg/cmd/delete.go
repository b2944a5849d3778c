package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

type deleteFlags struct {
	client         *clientFlags
	dryRun         dryRun
	parallel       parallel
	output         string
	expired        bool
	all            bool
	yes            bool
	ignoreNotFound bool
}

func newDeleteCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &deleteFlags{client: client}
	cmd := &cobra.Command{
		Use:                   "delete (TOKEN... | - | --expired | --all)",
		Aliases:               []string{"revoke", "rm"},
		DisableFlagsInUseLine: true,
		Short:                 "Delete bootstrap tokens from the cluster",
		Long: `
			Delete bootstrap tokens, so that no node can join with them any more. Nodes that
			have joined stay.

			A TOKEN is an id, ID.SECRET, a whole K10 token, the name of a token's Secret,
			or secret/NAME; "-" reads them from standard input, one a line. Where you give
			the secret part, it must be the stored one's.

			All tokens are tried; what could not be deleted is reported at the end.`,
		Example: `
			# Take a token back
			kubectl k3s-token delete abcdef

			# All that "list" shows with a certain description
			kubectl k3s-token list -o jsonpath='{range .items[?(@.description=="rack 7")]}{.id}{"\n"}{end}' | kubectl k3s-token delete -

			# Every token, without a question
			kubectl k3s-token delete --all --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := flags.toOptions(env, args)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: completeTokens(client),
	}
	f := cmd.Flags()
	f.BoolVar(&flags.expired, "expired", false, "Delete the tokens that have expired.")
	f.BoolVar(&flags.all, "all", false, "Delete all bootstrap tokens.")
	f.BoolVarP(&flags.yes, "yes", "y", false, "Do not ask before --all.")
	f.BoolVar(&flags.ignoreNotFound, "ignore-not-found", false, `Treat "not found" as a successful delete, as --all and --expired always do.`)
	f.StringVarP(&flags.output, "output", "o", "", "Output format: name, or none for a sentence a token.")
	flags.dryRun.addFlags(cmd)
	flags.parallel.addFlags(cmd)
	completeValues(cmd, "output", formatName)
	return cmd
}

// deleteOptions is a checked command line.
type deleteOptions struct {
	env            *Env
	client         *clientFlags
	refs           []bootstrap.Ref
	dryRun         dryRun
	parallel       parallel
	names          bool // -o name
	expired        bool
	all            bool
	yes            bool
	ignoreNotFound bool
}

func (f *deleteFlags) toOptions(env *Env, args []string) (*deleteOptions, error) {
	o := &deleteOptions{
		env:      env,
		client:   f.client,
		dryRun:   f.dryRun,
		parallel: f.parallel,
		names:    f.output == formatName,
		expired:  f.expired,
		all:      f.all,
		yes:      f.yes,
		// Of tokens that nobody has named, one that is gone by now is as it
		// should be: K3s removes an expired one within a second.
		ignoreNotFound: f.ignoreNotFound || f.all || f.expired,
	}
	ways := 0
	for _, chosen := range []bool{len(args) > 0, f.expired, f.all} {
		if chosen {
			ways++
		}
	}
	switch {
	case f.output != "" && f.output != formatName && f.output != formatText:
		return nil, fmt.Errorf("unknown output format %q: delete knows -o name", f.output)
	case ways == 0:
		return nil, errors.New("name the tokens to delete, or choose --expired or --all")
	case ways > 1:
		return nil, errors.New("choose one of TOKEN..., --expired and --all")
	}
	var err error
	o.refs, err = env.readRefs(args)
	return o, err
}

func (o *deleteOptions) run(ctx context.Context) error {
	conn, err := o.client.connect()
	if err != nil {
		return err
	}
	store := conn.tokens().WithParallel(int(o.parallel))
	failed := &failures{done: "deleted", ignoreNotFound: o.ignoreNotFound}
	tokens, err := o.find(ctx, conn, store, failed)
	if err != nil {
		return err
	}
	if len(tokens) == 0 && len(o.refs) == 0 {
		o.env.note("No bootstrap tokens found.")
		return nil
	}
	if o.all && !o.yes && o.dryRun == dryRunNone {
		what := fmt.Sprintf("delete all %s of the cluster %s", countTokens(len(tokens)), conn.cluster())
		if err := o.env.confirm(ctx, what); err != nil {
			return err
		}
	}
	var result strings.Builder
	if err := o.env.hold(); err != nil {
		return err
	}
	errs := o.delete(ctx, store, tokens)
	o.env.release()
	for i, err := range errs {
		if failed.add(tokens[i].ID, err) {
			o.describe(&result, tokens[i])
		}
	}
	if result.Len() > 0 {
		err = o.env.writeResult([]byte(result.String()))
	}
	return errors.Join(failed.err(), err)
}

func (o *deleteOptions) delete(ctx context.Context, store *bootstrap.Store, tokens []*bootstrap.Token) []error {
	switch o.dryRun {
	case dryRunClient:
		return make([]error, len(tokens))
	case dryRunServer:
		store = store.WithDryRun()
	}
	progress := o.env.newProgress("deleted", len(tokens))
	defer progress.clear()
	if o.expired {
		return store.DeleteUnchanged(ctx, tokens, progress.step)
	}
	return store.DeleteAll(ctx, tokens, progress.step)
}

func (o *deleteOptions) describe(result *strings.Builder, t *bootstrap.Token) {
	if o.names {
		fmt.Fprintf(result, "secret/%s\n", t.SecretName)
		return
	}
	fmt.Fprintf(result, "bootstrap token %q deleted%s\n", t.ID, o.dryRun.suffix())
}

// find returns the tokens to delete. Why others that were named are not among
// them goes to failed.
func (o *deleteOptions) find(ctx context.Context, conn *connection, store *bootstrap.Store, failed *failures) (found []*bootstrap.Token, err error) {
	if len(o.refs) == 0 {
		err := store.List(ctx, bootstrap.AllAtOnce, func(t *bootstrap.Token) error {
			if o.all || t.Status(conn.now()) == bootstrap.Expired {
				found = append(found, t)
			}
			return nil
		})
		return found, err
	}
	tokens, errs := store.Find(ctx, o.refs)
	seen := map[string]bool{}
	for i, t := range tokens {
		// One token may be named twice, in two ways.
		if failed.add(o.refs[i].String(), errs[i]) && !seen[t.SecretName] {
			seen[t.SecretName] = true
			found = append(found, t)
		}
	}
	return found, nil
}
