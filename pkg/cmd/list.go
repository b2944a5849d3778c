package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

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
		Long: `
			List the bootstrap tokens of the cluster, without their secrets.

			A Secret of the right type that is malformed is listed as invalid, with the
			reason, and hurts nothing else.`,
		Example: `
			# What there is, what ends first at the top
			kubectl k3s-token list

			# With status and age
			kubectl k3s-token list -o wide

			# For a script: the ids alone
			kubectl k3s-token list -o jsonpath='{range .items[*]}{.id}{"\n"}{end}'

			# What the server has not removed yet
			kubectl k3s-token list --expired`,
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
	f.Int64Var(&flags.chunkSize, "chunk-size", bootstrap.AllAtOnce, "Ask for long lists in chunks of this size; 0 asks for all at once, which costs the server least.")
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
	compare   func(a, b *entry) int
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
	list := &entries{shared: map[details]*details{}}
	err = conn.tokens().List(ctx, o.chunkSize, func(t *bootstrap.Token) error {
		list.add(t)
		return nil
	})
	if err != nil {
		return err
	}
	entries := list.all
	now := conn.now()
	if o.expired {
		entries = slices.DeleteFunc(entries, func(e *entry) bool {
			t := e.life()
			return t.Status(now) != bootstrap.Expired
		})
	}
	slices.SortFunc(entries, func(a, b *entry) int {
		if order := o.compare(a, b); order != 0 {
			return order
		}
		return cmp.Compare(a.id, b.id)
	})

	if err := o.print(entries, now); err != nil {
		return err
	}
	for _, e := range entries {
		if e.problem != "" {
			o.env.warn("secret/%s is no valid bootstrap token: %s", e.token().SecretName, e.problem)
		}
	}
	if len(entries) == 0 {
		o.env.note("No bootstrap tokens found.")
	}
	return nil
}

// entry is what list keeps of a token until all have arrived and can be sorted:
// of 50,000 tokens a few megabytes.
type entry struct {
	id               string
	expires, created time.Time
	*details
}

// details are what many tokens have in common, and then share.
type details struct {
	usages, groups, description, problem string
	secretName                           string // where it does not follow from the id
}

// entries are those of a list.
type entries struct {
	all    []*entry
	shared map[details]*details

	// The last token, and its details: the next one's are mostly the same.
	last    *bootstrap.Token
	details *details
}

func (e *entries) add(t *bootstrap.Token) {
	if last := e.last; last == nil || t.Description != last.Description || t.Problem != last.Problem ||
		!slices.Equal(t.Usages, last.Usages) || !slices.Equal(t.Groups, last.Groups) || unusualName(t) != unusualName(last) {
		d := details{strings.Join(t.Usages, ","), strings.Join(t.Groups, ","), t.Description, t.Problem, unusualName(t)}
		if e.shared[d] == nil {
			e.shared[d] = &d
		}
		e.details = e.shared[d]
	}
	e.last = t
	e.all = append(e.all, &entry{strings.Clone(t.ID), t.Expires, t.Created, e.details})
}

// unusualName is the name of a token's Secret where it does not follow from the
// id.
func unusualName(t *bootstrap.Token) string {
	if t.SecretName == bootstrap.SecretName(t.ID) {
		return ""
	}
	return t.SecretName
}

// token is the token again, without its secret.
func (e *entry) token() *bootstrap.Token {
	t := e.life()
	t.ID, t.Created, t.Description, t.SecretName = e.id, e.created, e.description, e.secret()
	if e.usages != "" {
		t.Usages = strings.Split(e.usages, ",")
	}
	if e.groups != "" {
		t.Groups = strings.Split(e.groups, ",")
	}
	return &t
}

// secret is the name of the token's Secret.
func (e *entry) secret() string { return cmp.Or(e.secretName, bootstrap.SecretName(e.id)) }

// life is as much of the token as tells its status.
func (e *entry) life() bootstrap.Token {
	return bootstrap.Token{Expires: e.expires, Problem: e.problem}
}

// printAtOnce is how many lines are put together before they are written.
const printAtOnce = 1000

func (o *listOptions) print(entries []*entry, now time.Time) error {
	if o.render != nil {
		result, err := o.render(newTokenList(objects(entries, now)))
		if err != nil {
			return err
		}
		return o.env.writeResult(result)
	}
	if o.format == formatName {
		for some := range slices.Chunk(entries, printAtOnce) {
			names := make([]string, len(some))
			for i, e := range some {
				names[i] = e.secret()
			}
			if err := o.env.writeResult(renderNames(names...)); err != nil {
				return err
			}
		}
		return nil
	}
	return o.printTable(entries, now)
}

func objects(entries []*entry, now time.Time) []BootstrapToken {
	items := make([]BootstrapToken, len(entries))
	for i, e := range entries {
		items[i] = newBootstrapToken(e.token(), now)
	}
	return items
}

// printTable prints the columns of "k3s token list", whose token column holds
// the id; -o wide adds two.
func (o *listOptions) printTable(entries []*entry, now time.Time) error {
	if len(entries) == 0 {
		return nil
	}
	header := []string{"TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"}
	if o.format == formatWide {
		header = append(header, "STATUS", "AGE")
	}
	lines := lines{now: now, columns: len(header), common: map[*details]*[3]string{}}
	table := newTable(len(header))
	if !o.noHeaders {
		table.measure(header...)
	}
	for _, e := range entries {
		table.measure(lines.cells(e)...)
	}
	if !o.noHeaders {
		table.write(header...)
	}
	for some := range slices.Chunk(entries, printAtOnce) {
		for _, e := range some {
			table.write(lines.cells(e)...)
		}
		if err := o.env.writeResult(table.out.Bytes()); err != nil {
			return err
		}
		table.out.Reset()
	}
	return nil
}

// lines makes the lines of a table. What tokens share is made once.
type lines struct {
	now     time.Time
	columns int
	common  map[*details]*[3]string

	// The last one's cells. Tokens that were made at once end at once.
	last                 *entry
	ttl, expires, status string
	line                 [8]string
}

// cells returns the cells of a line. They are good until the next call.
func (l *lines) cells(e *entry) []string {
	common := l.common[e.details]
	if common == nil {
		common = &[3]string{orNone(e.usages), orNone(e.description), orNone(e.groups)}
		l.common[e.details] = common
	}
	if l.last == nil || l.last.details != e.details || !l.last.expires.Equal(e.expires) {
		t := e.life()
		l.ttl, l.expires = lifetime(&t, l.now)
		l.status = string(t.Status(l.now))
		if t.Problem != "" {
			l.status += ": " + t.Problem
		}
	}
	l.last = e
	l.line = [...]string{printable(e.id), l.ttl, l.expires, common[0], common[1], common[2], l.status, ""}
	if age := &l.line[7]; l.columns == len(l.line) {
		*age = "<unknown>"
		if !e.created.IsZero() {
			*age = duration.HumanDuration(l.now.Sub(e.created))
		}
	}
	return l.line[:l.columns]
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
func comparison(sortBy string) (func(a, b *entry) int, error) {
	switch sortBy {
	case sortByExpires:
		return compareExpiry, nil
	case "id":
		return func(a, b *entry) int { return cmp.Compare(a.id, b.id) }, nil
	case "description":
		return func(a, b *entry) int { return cmp.Compare(a.description, b.description) }, nil
	case "age":
		// The youngest first, as kubectl's age column reads.
		return func(a, b *entry) int { return b.created.Compare(a.created) }, nil
	}
	return nil, fmt.Errorf("--sort-by %q: it takes %s", sortBy, strings.Join(sortKeys(), ", "))
}

// compareExpiry puts what ends first first, and what never ends last.
func compareExpiry(a, b *entry) int {
	if a.expires.IsZero() || b.expires.IsZero() {
		return -a.expires.Compare(b.expires)
	}
	return a.expires.Compare(b.expires)
}
