package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// maxCount is the most tokens that one create or generate makes.
	maxCount = 10_000

	// undoPatience is how long create goes on trying to remove tokens that it
	// could not deliver when the cluster does not help: long enough for a server
	// that restarts.
	undoPatience = 30 * time.Second
)

type createFlags struct {
	client      *clientFlags
	output      outputFlags
	expiry      expiryFlags
	dryRun      dryRun
	parallel    parallel
	description string
	groups      []string
	usages      []string
	caFile      string
	tokenFormat string
	outputFile  string
	join        string
	url         string
	count       int
}

func newCreateCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &createFlags{client: client}
	cmd := &cobra.Command{
		Use:                   "create [TOKEN|-]",
		DisableFlagsInUseLine: true,
		Short:                 "Create a bootstrap token and print it",
		Long: `
			Create a bootstrap token in the cluster and print it in secure format,
			K10HASH::ID.SECRET, which a node joins with.

			TOKEN is ID.SECRET, or "-" to read it from standard input; without it a
			random one is made. Others on this machine can read what stands on a command
			line, so prefer "-" to a TOKEN argument.

			The token is shown this once. Where it cannot be written out, it is removed from
			the cluster again.`,
		Example: `
			# A token that a node can join with during the next two hours
			kubectl k3s-token create --ttl 2h --description "rack 7"

			# The line to paste on the new machine
			kubectl k3s-token create --print-join-command --url https://k3s.example.com:6443

			# A token for each of forty machines, one a line
			kubectl k3s-token create --count 40 --ttl 1d --output-file tokens.txt

			# What would be created
			kubectl k3s-token create --dry-run=server -o yaml`,
		Args: atMostOneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := flags.toOptions(cmd, env, args)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags.expiry.addFlags(cmd, "24h")
	f := cmd.Flags()
	f.StringVar(&flags.description, "description", "", "What the token is for, in words for people.")
	f.StringSliceVar(&flags.groups, "groups", nil, "Groups that a bearer of the token is in. (default "+cluster.K3s.DefaultGroup()+", or its rke2 counterpart)")
	f.StringSliceVar(&flags.usages, "usages", bootstrap.DefaultUsages(), "What the token may be used for: authentication, signing.")
	f.StringVar(&flags.caFile, "ca-file", "", "File with the server's CA certificates (server/tls/server-ca.crt in its data directory) to compute the CA hash from, instead of asking the cluster.")
	f.StringVar(&flags.tokenFormat, "token-format", string(token.SecureFormat), "Format of the token: secure, or short, which has no CA hash.")
	f.StringVar(&flags.outputFile, "output-file", "", "Write to this new file, readable by its owner only (on Windows, as its folder lets others read it), instead of standard output.")
	f.StringVar(&flags.join, "print-join-command", "", "Print what to paste on the new machine instead of the bare token: install, the install script's command line; agent, the agent's; config, a config.yaml.")
	f.Lookup("print-join-command").NoOptDefVal = string(joinInstall)
	f.StringVar(&flags.url, "url", "", "Address that the new node dials, such as https://k3s.example.com:6443. (default the address in the kubeconfig)")
	f.IntVar(&flags.count, "count", 1, fmt.Sprintf("How many tokens to create, at most %d.", maxCount))
	flags.dryRun.addFlags(cmd)
	flags.parallel.addFlags(cmd)
	flags.output.addFlags(cmd, formatName)
	completeValues(cmd, "usages", bootstrap.DefaultUsages()...)
	completeValues(cmd, "token-format", string(token.SecureFormat), string(token.ShortFormat))
	completeValues(cmd, "print-join-command", joinKinds()...)
	return cmd
}

// createOptions is a checked command line.
type createOptions struct {
	env      *Env
	client   *clientFlags
	output   outputFlags
	render   render // nil where the tokens are printed bare
	token    token.Token
	proto    bootstrap.Token // what every token made has in common
	expiry   expiry
	dryRun   dryRun
	parallel parallel
	groups   bool // the user chose the groups
	ca       *cluster.CA
	format   token.Format
	file     string
	join     joinKind
	joinURL  string
	count    int
}

func (f *createFlags) toOptions(cmd *cobra.Command, env *Env, args []string) (*createOptions, error) {
	o := &createOptions{
		env:      env,
		client:   f.client,
		output:   f.output,
		dryRun:   f.dryRun,
		parallel: f.parallel,
		groups:   cmd.Flags().Changed("groups"),
		format:   token.Format(f.tokenFormat),
		file:     f.outputFile,
		join:     joinKind(f.join),
		joinURL:  f.url,
		count:    f.count,
		proto: bootstrap.Token{
			Description: f.description,
			Groups:      dedupe(f.groups),
			Usages:      dedupe(f.usages),
		},
	}
	if err := refuseEmpty(cmd, "ca-file", "output-file", "url", "print-join-command"); err != nil {
		return nil, err
	}
	var err error
	if o.expiry, err = f.expiry.toExpiry(cmd); err != nil {
		return nil, err
	}
	if err := o.proto.Validate(); err != nil {
		return nil, err
	}
	if f.count < 1 || f.count > maxCount {
		return nil, fmt.Errorf("--count %d: it takes a number from 1 to %d", f.count, maxCount)
	}
	if o.format != token.SecureFormat && o.format != token.ShortFormat {
		return nil, fmt.Errorf("--token-format %q: it takes secure or short", f.tokenFormat)
	}
	if _, own := f.output.own(); !own {
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	if err := o.checkJoin(); err != nil {
		return nil, err
	}
	if f.caFile != "" {
		ca, err := cluster.ReadCAFile(f.caFile, env.Now())
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		o.ca = &ca
	}
	if len(args) == 1 {
		if o.join != "" && slices.Contains(joinKinds(), args[0]) {
			return nil, fmt.Errorf("write --print-join-command=%s, with an equals sign", args[0])
		}
		if f.count > 1 {
			return nil, errors.New("--count makes random tokens: leave TOKEN out")
		}
		if o.token, err = env.readBootstrapToken(args[0]); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *createOptions) checkJoin() error {
	switch {
	case o.join == "":
		return nil
	case !slices.Contains(joinKinds(), string(o.join)):
		return fmt.Errorf("--print-join-command=%s: it takes %s", o.join, strings.Join(joinKinds(), ", "))
	case o.output.format != "" && o.output.format != formatText:
		return errors.New("--print-join-command and --output are two ways to print a token: choose one")
	case o.join == joinConfig && o.count > 1:
		return errors.New("--print-join-command=config is one node's file: leave out --count")
	}
	return nil
}

// run learns what it needs of the cluster, creates the tokens and delivers
// them. What can fail without a token in the cluster fails first; where a
// token is not delivered it is removed again.
func (o *createOptions) run(ctx context.Context) error {
	conn, err := o.client.connect()
	if err != nil {
		return err
	}
	facts, err := o.learn(ctx, conn)
	if err != nil {
		return err
	}
	tokens, err := o.newTokens(facts)
	if err != nil {
		return err
	}
	// A template that does not fit the token is found out now.
	samples := o.samples(tokens)
	sample, err := o.print(facts, samples)
	if err != nil {
		return err
	}
	if o.token.ID == "" && !bytes.Contains(sample, []byte(samples[0].Token.Secret.Reveal())) {
		o.env.warn("--output=%s leaves out the token's secret, which is not shown again: add .token to it", o.output.format)
	}
	if o.file == "" && o.token.ID == "" && o.dryRun == dryRunNone {
		if err := o.env.refuseLostOutput(); err != nil {
			return err
		}
	}
	delivery, err := o.env.newDelivery("output-file", o.file, o.dryRun != dryRunNone)
	if err != nil {
		return err
	}
	defer delivery.abandon()

	store := conn.tokens().WithParallel(int(o.parallel))
	if o.dryRun == dryRunServer {
		store = store.WithDryRun()
	}
	if err := o.env.hold(); err != nil {
		return err
	}
	defer o.env.release()
	made, failures := o.create(ctx, store, tokens)
	if err := o.deliver(ctx, facts, delivery, made); err != nil {
		return errors.Join(append(failures, err, o.undo(ctx, store, made))...)
	}
	if o.count > 1 && len(made) < o.count {
		failures = append(failures, fmt.Errorf("%d of %d tokens were created", len(made), o.count))
	}
	return errors.Join(failures...)
}

// clusterFacts is what create knows of the cluster before it writes.
type clusterFacts struct {
	ca           cluster.CA
	version      cluster.Version // only where it is needed
	distribution cluster.Distribution
	join         cluster.JoinURL
	now          func() time.Time
}

func (o *createOptions) needsCA() bool {
	return o.format == token.SecureFormat || o.render != nil
}

// needsTime tells whether the end of the tokens hangs on a clock that no other
// question to the cluster tells.
func (o *createOptions) needsTime() bool {
	return !o.expiry.never() && o.dryRun != dryRunClient && (o.ca != nil || !o.needsCA())
}

func (o *createOptions) learn(ctx context.Context, conn *connection) (*clusterFacts, error) {
	facts := &clusterFacts{now: conn.now}
	var err error
	switch {
	case o.ca != nil:
		facts.ca = *o.ca
	case o.needsCA():
		if facts.ca, err = cluster.FetchCA(ctx, conn.configMaps(), conn.config, conn.clock.Now); err != nil {
			return nil, err
		}
	}
	// The CA mostly tells what made it, which saves a round trip to a cluster
	// that may be far away.
	facts.distribution = facts.ca.Distribution()
	unknown := facts.distribution == cluster.Other && (!o.groups || o.join != "" || o.render != nil)
	if unknown || o.join == joinInstall || o.needsTime() {
		facts.version, err = cluster.FetchVersion(ctx, conn)
		if err != nil && (o.join == joinInstall || !apierrors.IsForbidden(err)) {
			return nil, err
		}
	}
	if facts.version.GitVersion != "" {
		facts.distribution = facts.version.Distribution()
	}
	if facts.version.GitVersion != "" && facts.distribution == cluster.Other {
		o.env.warn("the server is Kubernetes %s, neither K3s nor RKE2: nothing there knows what to do with a K3s token", facts.version.GitVersion)
	}
	if facts.ca.Note != "" {
		o.env.warn("%s", facts.ca.Note)
	}
	if o.joinURL != "" {
		facts.join, err = cluster.ParseJoinURL(o.joinURL, facts.distribution)
	} else {
		facts.join, err = cluster.DefaultJoinURL(conn.config, facts.distribution)
	}
	if err != nil {
		return nil, err
	}
	if o.join != "" && facts.join.Warning != "" {
		o.env.warn("%s", facts.join.Warning)
	}
	return facts, nil
}

// newTokens returns the tokens to create; all but a given one get their id and
// secret later.
func (o *createOptions) newTokens(facts *clusterFacts) ([]*bootstrap.Token, error) {
	expires, err := o.expiry.at(facts.now())
	if err != nil {
		return nil, err
	}
	o.env.warnIfForever(expires)
	if !slices.Contains(o.proto.Usages, bootstrap.UsageAuthentication) {
		o.env.warn("no node can join with a token that lacks the usage authentication")
	}
	proto := o.proto
	proto.Token, proto.Expires = o.token, expires
	if !o.groups {
		proto.Groups = []string{facts.distribution.DefaultGroup()}
	}
	tokens := make([]*bootstrap.Token, o.count)
	for i := range tokens {
		t := proto
		tokens[i] = &t
	}
	return tokens, nil
}

// samples returns tokens to try the printer on before there are real ones.
func (o *createOptions) samples(tokens []*bootstrap.Token) []*bootstrap.Token {
	sample := *tokens[0]
	sample.Token = token.Token{ID: "aaaaaa", Secret: token.Secret(strings.Repeat("a", token.SecretLength))}
	return slices.Repeat([]*bootstrap.Token{&sample}, min(len(tokens), 2))
}

// create returns the tokens that it made, in their order, and why it did not
// make the others.
func (o *createOptions) create(ctx context.Context, store *bootstrap.Store, tokens []*bootstrap.Token) (made []*bootstrap.Token, failures []error) {
	if o.dryRun == dryRunClient {
		for _, t := range tokens {
			if t.ID == "" {
				drawn, err := token.GenerateBootstrap(o.env.Random)
				if err != nil {
					return nil, []error{err}
				}
				t.Token = drawn
			}
		}
		return tokens, nil
	}
	progress := o.env.newProgress("created", len(tokens))
	errs := store.CreateAll(ctx, tokens, o.env.Random, progress.step)
	progress.clear()

	var uncertain []*bootstrap.Token
	for i, err := range errs {
		var unknown *bootstrap.UncertainError
		switch {
		case err == nil:
			made = append(made, tokens[i])
			continue
		case errors.As(err, &unknown):
			uncertain = append(uncertain, tokens[i])
		}
		failures = append(failures, o.explain(tokens[i], err))
	}
	return made, append(failures, o.undo(ctx, store, uncertain))
}

func (o *createOptions) explain(t *bootstrap.Token, err error) error {
	if apierrors.IsAlreadyExists(err) && o.token.ID != "" {
		return fmt.Errorf("token %q already exists: choose another id, or leave TOKEN out to have one made", t.ID)
	}
	return err
}

// deliver prints the tokens, or returns why they have not reached the user.
func (o *createOptions) deliver(ctx context.Context, facts *clusterFacts, delivery *delivery, made []*bootstrap.Token) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(made) == 0 {
		return nil
	}
	if expires := made[0].Expires; !expires.IsZero() && !expires.After(facts.now()) {
		return errors.New("the token expired before it could be printed: choose a longer --ttl")
	}
	result, err := o.print(facts, made)
	if err != nil {
		return err
	}
	if err := delivery.write(ctx, result); err != nil {
		return err
	}
	if o.dryRun != dryRunNone {
		o.env.note("%s not created (%s dry run)", countTokens(len(made)), o.dryRun)
	} else if o.file != "" {
		o.env.note("%s written to %s", countTokens(len(made)), o.file)
	}
	return nil
}

// manyToUndo is from how many tokens on removing them takes so long that the user
// is told of it before.
const manyToUndo = 100

// undo removes tokens that did not reach the user, and returns which of them
// may be left.
func (o *createOptions) undo(ctx context.Context, store *bootstrap.Store, tokens []*bootstrap.Token) error {
	if len(tokens) == 0 || o.dryRun != dryRunNone {
		return nil
	}
	if len(tokens) > manyToUndo {
		o.env.note("removing the %s that were made: another interrupt would leave them in the cluster", countTokens(len(tokens)))
	}
	var left, unseen []string
	var errs []error
	for i, err := range store.UndoAll(ctx, tokens, undoPatience) {
		switch {
		case errors.Is(err, bootstrap.ErrUnseen):
			unseen = append(unseen, tokens[i].ID)
		case err != nil:
			left = append(left, tokens[i].ID)
			errs = append(errs, err)
		}
	}
	if left = append(left, unseen...); len(errs) > 0 {
		ids := strings.Join(left, " ")
		return errors.Join(append(errs, fmt.Errorf("the cluster may hold tokens that you have not seen, and removing them failed: %s\nwhen it answers again, run: %s delete --ignore-not-found %s", ids, Name, ids))...)
	}
	o.env.note("no token was left in the cluster that you have not seen")
	if len(unseen) > 0 {
		o.env.note("should a request that was not answered be held up on its way, it may still make one: to be sure, run later: %s delete --ignore-not-found %s", Name, strings.Join(unseen, " "))
	}
	return nil
}

// print returns what the user gets for the tokens.
func (o *createOptions) print(facts *clusterFacts, tokens []*bootstrap.Token) ([]byte, error) {
	objects := make([]BootstrapToken, len(tokens))
	secrets := make([]token.Secret, len(tokens))
	lines := make([]string, len(tokens))
	for i, t := range tokens {
		shown := t.Token
		if o.format == token.SecureFormat {
			shown = shown.WithCAHash(facts.ca.Hash)
		}
		secrets[i] = t.Token.Secret
		lines[i] = shown.Reveal()
		if o.join != "" {
			line, err := joinCommand(o.join, facts.join.URL, shown, facts.distribution, facts.version.GitVersion)
			if err != nil {
				return nil, err
			}
			lines[i] = line
		}
		objects[i] = newBootstrapToken(t, facts.now())
		objects[i].Token, objects[i].CAHash, objects[i].Server = shown.Reveal(), facts.ca.Hash, facts.join.URL
	}
	format, own := o.output.own()
	switch {
	case own && format == formatName:
		return renderNames(secretNames(objects)...), nil
	case own:
		return []byte(strings.Join(lines, "\n") + "\n"), nil
	case o.count == 1:
		return o.render(&objects[0], secrets...)
	}
	return o.render(newTokenList(objects), secrets...)
}

func dedupe(values []string) []string {
	var unique []string
	for _, value := range values {
		if !slices.Contains(unique, value) {
			unique = append(unique, value)
		}
	}
	return unique
}

func countTokens(n int) string {
	if n == 1 {
		return "1 token"
	}
	return fmt.Sprintf("%d tokens", n)
}
