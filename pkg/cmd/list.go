package cmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

type listFlags struct {
	client    *clientFlags
	output    outputFlags
	sortBy    string
	expired   bool
	noHeaders bool
	chunkSize int64
}

func newListCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &listFlags{client: client}
	cmd := &cobra.Command{
		Use:                   "list",
		Aliases:               []string{"ls"},
		DisableFlagsInUseLine: true,
		Short:                 "List the bootstrap tokens of the cluster",
		Long: templates.LongDesc(`
			List the bootstrap tokens of the cluster, without their secrets.

			A Secret of the right type that is malformed is listed as invalid, with the
			reason, and hurts nothing else.`),
		Example: templates.Examples(`
			# What there is, what ends first at the top
			kubectl k3s-token list

			# With status and age
			kubectl k3s-token list -o wide

			# For a script: the ids alone
			kubectl k3s-token list -o jsonpath='{range .items[*]}{.id}{"\n"}{end}'

			# What the server has not removed yet
			kubectl k3s-token list --expired`),
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := flags.toOptions(env)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&flags.sortBy, "sort-by", sortByExpires, "Order of the list: "+strings.Join(sortKeys(), ", ")+".")
	f.BoolVar(&flags.expired, "expired", false, "List only tokens that have expired.")
	f.BoolVar(&flags.noHeaders, "no-headers", false, "Print no column headers.")
	f.Int64Var(&flags.chunkSize, "chunk-size", bootstrap.DefaultChunkSize, "Ask for long lists in chunks of this size; 0 for all in one.")
	flags.output.addFlags(cmd, formatWide, formatName)
	completeValues(cmd, "sort-by", sortKeys()...)
	return cmd
}

// listOptions is a checked command line.
type listOptions struct {
	env       *Env
	client    *clientFlags
	format    string
	render    render // nil where the command prints the list itself
	compare   func(a, b *bootstrap.Token) int
	expired   bool
	noHeaders bool
	chunkSize int64
}

func (f *listFlags) toOptions(env *Env) (*listOptions, error) {
	o := &listOptions{env: env, client: f.client, expired: f.expired, noHeaders: f.noHeaders, chunkSize: f.chunkSize}
	var own bool
	var err error
	if o.format, own = f.output.own(); !own {
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	if f.chunkSize < 0 {
		return nil, errors.New("--chunk-size takes 0 or more")
	}
	if o.compare, err = comparison(f.sortBy); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *listOptions) run(ctx context.Context) error {
	conn, err := o.client.connect()
	if err != nil {
		return err
	}
	all, err := bootstrap.NewStore(conn.core).ListAll(ctx, o.chunkSize)
	if err != nil {
		return err
	}
	now := o.env.Now()
	tokens := all
	if o.expired {
		tokens = slices.DeleteFunc(all, func(t *bootstrap.Token) bool { return t.Status(now) != bootstrap.Expired })
	}
	slices.SortStableFunc(tokens, o.compare)

	result, err := o.print(tokens, now)
	if err != nil {
		return err
	}
	if err := o.env.writeResult(result); err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Problem != "" {
			o.env.warn("secret/%s is no valid bootstrap token: %s", t.SecretName, t.Problem)
		}
	}
	if len(tokens) == 0 {
		o.env.note("No bootstrap tokens found.")
	}
	return nil
}

func (o *listOptions) print(tokens []*bootstrap.Token, now time.Time) ([]byte, error) {
	if o.render == nil && o.format != formatName {
		return o.table(tokens, now)
	}
	items := make([]BootstrapToken, len(tokens))
	for i, t := range tokens {
		items[i] = newBootstrapToken(t, now)
	}
	if o.format == formatName {
		return renderNames(newTokenList(items)), nil
	}
	return o.render(newTokenList(items))
}

// table prints the columns of "k3s token list", whose token column holds the
// id; -o wide adds two.
func (o *listOptions) table(tokens []*bootstrap.Token, now time.Time) ([]byte, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	const wide = 1
	table := &metav1.Table{
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Token", Type: "string"},
			{Name: "TTL", Type: "string"},
			{Name: "Expires", Type: "string"},
			{Name: "Usages", Type: "string"},
			{Name: "Description", Type: "string"},
			{Name: "Extra Groups", Type: "string"},
			{Name: "Status", Type: "string", Priority: wide},
			{Name: "Age", Type: "string", Priority: wide},
		},
		Rows: make([]metav1.TableRow, len(tokens)),
	}
	for i, t := range tokens {
		ttl, expires := lifetime(t, now)
		status := string(t.Status(now))
		if t.Problem != "" {
			status += ": " + t.Problem
		}
		age := "<unknown>"
		if !t.Created.IsZero() {
			age = duration.HumanDuration(now.Sub(t.Created))
		}
		table.Rows[i].Cells = []any{
			printable(t.ID), ttl, expires,
			orNone(t.Usages...), orNone(t.Description), orNone(t.Groups...),
			status, age,
		}
	}
	var out bytes.Buffer
	printer := printers.NewTablePrinter(printers.PrintOptions{NoHeaders: o.noHeaders, Wide: o.format == formatWide})
	err := printer.PrintObj(table, &out)
	return out.Bytes(), err
}

// lifetime returns what the columns TTL and EXPIRES say.
func lifetime(t *bootstrap.Token, now time.Time) (ttl, expires string) {
	ttl, expires = "<forever>", "<never>"
	if !t.Expires.IsZero() {
		ttl = duration.ShortHumanDuration(t.Expires.Sub(now))
		expires = t.Expires.UTC().Format(time.RFC3339)
	}
	switch t.Status(now) {
	case bootstrap.Expired:
		ttl = "<expired>"
	case bootstrap.Invalid:
		ttl = "<invalid>"
		if t.Expires.IsZero() {
			expires = "<invalid>"
		}
	}
	return ttl, expires
}

// orNone joins the values that are not empty, fit for a terminal.
func orNone(values ...string) string {
	if joined := strings.Join(values, ","); joined != "" {
		return printable(joined)
	}
	return "<none>"
}

const sortByExpires = "expires"

func sortKeys() []string { return []string{sortByExpires, "id", "description", "age"} }

// comparison returns the order that --sort-by names. What it leaves undecided
// stays in the order of the ids.
func comparison(sortBy string) (func(a, b *bootstrap.Token) int, error) {
	switch sortBy {
	case sortByExpires:
		return compareExpiry, nil
	case "id":
		return func(a, b *bootstrap.Token) int { return cmp.Compare(a.ID, b.ID) }, nil
	case "description":
		return func(a, b *bootstrap.Token) int { return cmp.Compare(a.Description, b.Description) }, nil
	case "age":
		// The youngest first, as kubectl's age column reads.
		return func(a, b *bootstrap.Token) int { return b.Created.Compare(a.Created) }, nil
	}
	return nil, fmt.Errorf("--sort-by %q: it takes %s", sortBy, strings.Join(sortKeys(), ", "))
}

// compareExpiry puts what ends first first, and what never ends last.
func compareExpiry(a, b *bootstrap.Token) int {
	if a.Expires.IsZero() || b.Expires.IsZero() {
		return -a.Expires.Compare(b.Expires)
	}
	return a.Expires.Compare(b.Expires)
}
