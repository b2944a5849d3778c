package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

type verifyFlags struct {
	supervisor   supervisorFlags
	output       outputFlags
	oldTokenFile string
}

func newVerifyCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &verifyFlags{supervisor: supervisorFlags{client: client}}
	cmd := &cobra.Command{
		Use:                   "verify (TOKEN | - | --token-file FILE) [--server URL]...",
		DisableFlagsInUseLine: true,
		Short:                 "Try whether a node could join with a token",
		Long: `
			Try a token on a K3s server as a joining node does, without joining: download
			the server's CA bundle, hash it, compare the hash with the token's, validate the
			server's certificate, and only then send the credentials. The answer says what
			the token is good for; nothing changes on the server or in the cluster.

			The credentials go to no server that has not proved to be the token's. A token
			without a CA hash is tried where the server has the CA of the kubeconfig's
			context; on any other server it needs --insecure-trust-server.

			With several servers, or --all-servers, each has a row. The command succeeds
			only if all of them accept the token. After a rotation of the server token,
			--all-servers with the new token tells which servers have not been restarted,
			and once all accept it, removes the record that rotate has left in the cluster.

			Others on this machine can read what stands on a command line, so prefer "-",
			--token-file or the variable K3S_TOKEN to a TOKEN argument.`,
		Example: `
			# Can a node join with the token in that file?
			kubectl k3s-token verify --token-file node-token

			# Is a new token good?
			kubectl k3s-token create --ttl 1h | kubectl k3s-token verify -

			# Does every server of the cluster accept it?
			kubectl k3s-token verify --all-servers --token-file node-token

			# For a script: what the token is good for
			kubectl k3s-token verify --token-file node-token -o jsonpath='{.joinsAgents} {.joinsServers}'`,
		Args: atMostOneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseEmpty(cmd, "token", "token-file", "old-token-file"); err != nil {
				return err
			}
			options, err := flags.toOptions(env, args)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags.supervisor.addFlags(cmd, "the token to verify")
	cmd.Flags().StringVar(&flags.oldTokenFile, "old-token-file", "", "File that holds the server token from before a rotation, to see which servers still accept it; none should.")
	flags.output.addFlags(cmd)
	return cmd
}

// verifyOptions is a checked command line.
type verifyOptions struct {
	env         *Env
	supervisors *supervisors
	render      render // nil for text
	token       token.Token
	oldToken    *token.Token
	allServers  bool
}

func (f *verifyFlags) toOptions(env *Env, args []string) (*verifyOptions, error) {
	o := &verifyOptions{env: env, allServers: f.supervisor.allServers}
	var err error
	if _, own := f.output.own(); !own {
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	if o.token, err = f.supervisor.readToken(env, args); err != nil {
		return nil, err
	}
	if f.oldTokenFile != "" {
		if o.oldToken, err = readOldToken(f.oldTokenFile, o.token); err != nil {
			return nil, fmt.Errorf("--old-token-file: %w", err)
		}
	}
	o.supervisors, err = f.supervisor.toSupervisors(env)
	return o, err
}

// readOldToken reads the token from before a rotation. It is for the same
// cluster as the new one, so either's CA hash is good for both.
func readOldToken(file string, next token.Token) (*token.Token, error) {
	s, err := readTokenFile(file)
	if err != nil {
		return nil, err
	}
	old, err := token.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("malformed token: %w", err)
	case old.Type() == token.Bootstrap:
		return nil, errors.New("it is a bootstrap token, and only the server token is rotated")
	case old.Secret == next.Secret:
		return nil, errors.New("it holds the token to verify: give the one from before the rotation")
	case old.CAHash == "":
		old.CAHash = next.CAHash
	}
	return &old, nil
}

// run tries the token on each server and says what they answer.
func (o *verifyOptions) run(ctx context.Context) error {
	urls, err := o.targets(ctx)
	if err != nil {
		return err
	}
	if reason, ok := token.LooksLikeBootstrap(o.token); ok {
		o.env.warn("the token is taken as a password; as a bootstrap token it is malformed: %s", reason)
	}
	facts := o.contextFacts(ctx)
	switch several := len(urls) > 1 || o.allServers; {
	case several:
		return o.runSeveral(ctx, urls, facts)
	case o.render != nil:
		return o.runOne(ctx, urls[0], facts)
	}
	return o.show(ctx, urls[0], facts)
}

// targets returns the servers to ask: those named and, with --all-servers,
// those of the cluster.
func (o *verifyOptions) targets(ctx context.Context) ([]supervisor.URL, error) {
	if !o.allServers {
		return o.supervisors.servers(ctx)
	}
	urls := slices.Clone(o.supervisors.named)
	nodes, err := o.supervisors.controlPlane(ctx)
	for _, url := range nodes {
		if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls, err
}

// show takes the steps before the user's eyes.
func (o *verifyOptions) show(ctx context.Context, url supervisor.URL, facts *contextFacts) error {
	// Where the reader has gone away, nothing more is sent.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	line := func(format string, args ...any) {
		if ctx.Err() != nil {
			return
		}
		if err := o.env.writeResult(fmt.Appendf(nil, format+"\n", args...)); err != nil {
			cancel(err)
		}
	}
	line("Server: %s", url)
	line("Token:  %s\n", describeToken(o.token))
	v := o.verify(ctx, url, facts, func(step supervisor.Step) {
		line("%d  %-33s  %-7s  %s", step.Number, step.Name, stepResult(step.Status), printable(step.Detail))
	})
	if t := v.BootstrapToken; t != nil {
		line("\nDescription: %s", orNone(t.Description))
		line("Expires:     %s", o.expiry(t.Expires))
		line("Groups:      %s", orNone(t.Groups...))
		line("Usages:      %s", orNone(t.Usages...))
	}
	if v.OldToken != "" {
		line("\nOld token: %s", v.OldToken)
	}
	line("\nVerdict: %s", printable(v.conclusion()))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case v.good():
		return nil
	case v.Verdict == string(supervisor.Accepted):
		return fmt.Errorf("%s still accepts the old token", url)
	case v.Verdict == verdictNotSent:
		return fmt.Errorf("step %d failed, and the token was not sent to %s", len(v.Steps), url)
	}
	return fmt.Errorf("%s does not accept the token", url)
}

// runOne prints what one server says as an object.
func (o *verifyOptions) runOne(ctx context.Context, url supervisor.URL, facts *contextFacts) error {
	v := o.verify(ctx, url, facts, func(supervisor.Step) {})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	result, err := o.render(v, o.secrets()...)
	if err != nil {
		return err
	}
	if err := o.env.writeResult(result); err != nil {
		return err
	}
	if !v.good() {
		return fmt.Errorf("%s: %s: %s", url, v.Verdict, v.detail())
	}
	return nil
}

// runSeveral asks the servers side by side and prints a row for each.
func (o *verifyOptions) runSeveral(ctx context.Context, urls []supervisor.URL, facts *contextFacts) error {
	items := make([]Verification, len(urls))
	var running sync.WaitGroup
	for i, url := range urls {
		running.Go(func() { items[i] = *o.verify(ctx, url, facts, func(supervisor.Step) {}) })
	}
	running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	result, err := o.print(items)
	if err != nil {
		return err
	}
	if err := o.env.writeResult(result); err != nil {
		return err
	}
	bad := 0
	for i := range items {
		if !items[i].good() {
			bad++
		}
	}
	if o.allServers {
		o.settleRotation(ctx, items)
	}
	if bad > 0 {
		return fmt.Errorf("the token is not good on %d of %d servers", bad, len(items))
	}
	return nil
}

func (o *verifyOptions) print(items []Verification) ([]byte, error) {
	if o.render != nil {
		return o.render(&VerificationList{TypeMeta: typeMeta("VerificationList"), Items: items}, o.secrets()...)
	}
	rows := [][]string{{"SERVER", "RESULT", "CA HASH", "DETAIL"}}
	for i := range items {
		v := &items[i]
		detail := v.detail()
		if v.caHashResult() == hashDiffers {
			// The two hashes would fill the screen.
			detail = strings.TrimSuffix("the server's CA is not the token's; "+v.Hint, "; ")
		}
		rows = append(rows, []string{v.Server, v.Verdict, v.caHashResult(), printable(detail)})
	}
	if o.oldToken != nil {
		rows[0] = slices.Insert(rows[0], 2, "OLD TOKEN")
		for i := range items {
			rows[i+1] = slices.Insert(rows[i+1], 2, orNone(items[i].OldToken))
		}
	}
	table := newTable(len(rows[0]))
	for _, row := range rows {
		table.measure(row...)
	}
	for _, row := range rows {
		table.write(row...)
	}
	return table.out.Bytes(), nil
}

// secrets are what a template's error must not repeat.
func (o *verifyOptions) secrets() []token.Secret {
	secrets := []token.Secret{o.token.Secret}
	if o.oldToken != nil {
		secrets = append(secrets, o.oldToken.Secret)
	}
	return secrets
}

func describeToken(t token.Token) string {
	described := kindOfToken(t.Type())
	if t.ID != "" {
		described += " " + t.ID
	}
	if t.CAHash == "" {
		described += ", without a CA hash"
	}
	return described
}

func stepResult(status supervisor.Status) string {
	if status == supervisor.Passed {
		return "ok"
	}
	return string(status)
}

func (o *verifyOptions) expiry(expires *metav1.Time) string {
	if expires == nil {
		return "<never>"
	}
	return fmt.Sprintf("%s (%s)", expires.UTC().Format(time.RFC3339), fromNow(expires.Time, o.supervisors.conn.now()))
}

func fromNow(t, now time.Time) string {
	if t.After(now) {
		return "in " + duration.ShortHumanDuration(t.Sub(now))
	}
	return duration.ShortHumanDuration(now.Sub(t)) + " ago"
}

// verify tries the token on one server, and says what is known of the answer.
func (o *verifyOptions) verify(ctx context.Context, url supervisor.URL, facts *contextFacts, observe func(supervisor.Step)) *Verification {
	v := &Verification{TypeMeta: typeMeta("Verification"), Server: url.String(), Token: newTokenInfo(o.token)}
	report, err := o.try(ctx, url, o.token, facts, func(step supervisor.Step) {
		v.Steps = append(v.Steps, VerificationStep{
			Number: step.Number, Name: step.Name, Status: string(step.Status), Detail: step.Detail,
		})
		observe(step)
	})
	v.Remote, v.Distribution, v.CAHash = report.Remote, string(report.Distribution), report.CAHash
	v.JoinsAgents, v.JoinsServers = report.Finding.JoinsAgents(), report.Finding.JoinsServers()
	v.Verdict = verdictOf(report, err)
	var notAccepted *supervisor.NotAcceptedError
	switch {
	case err == nil:
		v.Reason = report.Finding.GoodFor()
	case errors.As(err, &notAccepted):
		v.Reason = notAccepted.Error()
	default:
		v.Reason, v.Hint = splitHint(err)
	}
	switch {
	case v.Verdict == verdictNotSent:
		if hint := facts.otherCluster(err); hint != "" {
			v.Hint = strings.TrimPrefix(v.Hint+"; "+hint, "; ")
		}
	case o.token.Type() == token.Bootstrap:
		o.lookUp(v, facts)
	case o.oldToken != nil:
		o.tryOldToken(ctx, url, v, facts)
	}
	return v
}

// try takes the five steps with one token.
func (o *verifyOptions) try(ctx context.Context, url supervisor.URL, t token.Token, facts *contextFacts, observe func(supervisor.Step)) (report supervisor.Report, err error) {
	err = o.supervisors.trusting(t, facts.ca, observe, func(opts supervisor.Options) error {
		var err error
		report, err = supervisor.Verify(ctx, url, t, opts)
		return err
	})
	return report, err
}

const (
	// verdictNotSent is where the credentials were not sent, verdictUnknown
	// where they were, and the answer was lost.
	verdictNotSent = "not sent"
	verdictUnknown = "unknown"
)

func verdictOf(report supervisor.Report, err error) string {
	var notAccepted *supervisor.NotAcceptedError
	switch {
	case err == nil, errors.As(err, &notAccepted):
		return string(report.Finding.Verdict())
	case report.CAHash == "": // no session came about
		return verdictNotSent
	}
	return verdictUnknown
}

// tryOldToken finds out whether the server still accepts the token from before
// a rotation.
func (o *verifyOptions) tryOldToken(ctx context.Context, url supervisor.URL, v *Verification, facts *contextFacts) {
	report, err := o.try(ctx, url, *o.oldToken, facts, func(supervisor.Step) {})
	v.OldToken = verdictOf(report, err)
	switch refused := v.Verdict == string(supervisor.Refused); {
	case v.OldToken == string(supervisor.Accepted):
		v.Hint = "it still accepts the old token: restart it with the new one"
	case v.OldToken == string(supervisor.Refused) && refused:
		v.Hint = "it accepts neither token: look at server/token in its data directory, and at the token it is started with"
	}
}

// lookUp adds what the cluster's API knows of a bootstrap token.
func (o *verifyOptions) lookUp(v *Verification, facts *contextFacts) {
	ca, err := facts.ca()
	if err != nil || ca.Hash != v.CAHash {
		return // the context is another cluster's, and its tokens are others
	}
	accepted := v.Verdict == string(supervisor.Accepted)
	stored, err := facts.stored()
	switch {
	case apierrors.IsNotFound(err) && accepted:
		v.Hint = "the token was deleted a moment ago: the server remembers it for some seconds"
	case apierrors.IsNotFound(err):
		v.Hint = "the cluster has no token of that id: it has expired and was removed, was deleted, or is another cluster's; create a new one"
	case errors.Is(err, bootstrap.ErrOtherSecret):
		v.Hint = "the cluster has a token of that id with another secret: the token is another cluster's, or was mistyped"
	case err != nil && accepted:
	case err != nil:
		v.Hint = fmt.Sprintf("the cluster does not tell why: %v", err)
	default:
		shown := newBootstrapToken(stored, o.supervisors.conn.now())
		v.BootstrapToken = &shown
		if !accepted {
			v.Hint = o.whyRefused(stored)
		}
	}
}

// whyRefused says what is wrong with a token that the cluster has.
func (o *verifyOptions) whyRefused(t *bootstrap.Token) string {
	now := o.supervisors.conn.now()
	switch {
	case t.Problem != "":
		return fmt.Sprintf("secret/%s is malformed: %s", t.SecretName, t.Problem)
	case t.Status(now) == bootstrap.Expired:
		return fmt.Sprintf("the token expired %s: create a new one", fromNow(t.Expires, now))
	case !slices.Contains(t.Usages, bootstrap.UsageAuthentication):
		return "the token lacks the usage authentication: create one that has it"
	}
	return "the cluster has the token, and it is valid: try again in a moment"
}

// contextFacts is what the context's cluster knows; each is asked for at most
// once, when it is needed.
type contextFacts struct {
	ca     caSource
	stored func() (*bootstrap.Token, error)
	// own is the CA of the kubeconfig itself.
	own string
}

func (o *verifyOptions) contextFacts(ctx context.Context) *contextFacts {
	facts := &contextFacts{ca: o.supervisors.contextCA(ctx)}
	conn := o.supervisors.conn
	if conn == nil {
		return facts
	}
	facts.stored = sync.OnceValues(func() (*bootstrap.Token, error) {
		ref, err := bootstrap.ParseRef(o.token.WithoutCAHash().Reveal())
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, learnBound)
		defer cancel()
		return conn.tokens().Get(ctx, ref)
	})
	if ca, err := cluster.KubeconfigCA(conn.config, o.env.Now()); err == nil {
		facts.own = ca.Hash
	}
	return facts
}

// otherCluster says which of token and server is the context's, where the two
// do not belong together.
func (f *contextFacts) otherCluster(err error) string {
	var mismatch *supervisor.HashMismatchError
	switch {
	case f.own == "" || !errors.As(err, &mismatch):
		return ""
	case f.own == mismatch.Server:
		return "the server is of the context's cluster, so the token is of another, or older than this CA"
	case f.own == mismatch.Token:
		return "the token is of the context's cluster, and this server is not"
	}
	return ""
}

// settleRotation removes the record of a rotation once all servers accept the
// new server token, and says so where they do not.
func (o *verifyOptions) settleRotation(ctx context.Context, items []Verification) {
	refused := func(v Verification) bool { return !v.good() }
	notServers := func(v Verification) bool { return !v.JoinsServers }
	complete := !slices.ContainsFunc(items, refused)
	switch t := o.token.Type(); {
	case t == token.Bootstrap, t == token.Agent:
		return
	case complete && slices.ContainsFunc(items, notServers):
		return // the agent token's password, which says nothing of the server token
	}
	store := cluster.NewRotationStore(o.supervisors.conn.configMaps())
	record, err := store.Get(ctx)
	if err != nil {
		o.env.warn("whether a rotation of the server token is unfinished cannot be told: %v", err)
		return
	}
	if record == nil {
		return
	}
	about := fmt.Sprintf("the rotation of the server token through %s, begun %s", record.Server, fromNow(record.Started, o.supervisors.now()))
	switch {
	case !complete:
		o.env.warn("%s, is not finished: restart each server that does not accept the new token, one after the other, and run this again", about)
	case !record.IsNew(o.token.Secret):
		o.env.warn("%s, is not finished: this is the token from before it, and no server has been restarted with the new one", about)
	default:
		if err := store.Remove(ctx, record); err != nil {
			o.env.warn("%s, is finished, but its record was not removed (ConfigMap %s in kube-system): %v", about, cluster.RotationRecord, err)
			return
		}
		o.env.note("%s, is finished: its record was removed (ConfigMap %s in kube-system)", about, cluster.RotationRecord)
	}
}
