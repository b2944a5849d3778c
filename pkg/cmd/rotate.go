package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	flagNewTokenOutput = "new-token-output"

	// answerGrace is how long an interrupt waits for the answer to a rotation
	// that is under way. A server takes a fraction of a second.
	answerGrace = 5 * time.Second
)

type rotateFlags struct {
	supervisor     supervisorFlags
	output         outputFlags
	dryRun         dryRun
	newToken       string
	newTokenFile   string
	newTokenOutput string
	allowSpecial   bool
	allowWeak      bool
	yes            bool
	force          bool
}

func newRotateCommand(env *Env, client *clientFlags) *cobra.Command {
	flags := &rotateFlags{supervisor: supervisorFlags{client: client}}
	cmd := &cobra.Command{
		Use:                   "rotate [--token-file FILE] [--server URL]...",
		DisableFlagsInUseLine: true,
		Short:                 "Replace the server token of a cluster",
		Long: `
			Replace the server token, with which servers and, where there is no agent token,
			agents join. The new one is generated unless you give it, and printed in secure
			format. The servers go on with the old token until they are restarted with the
			new one, one at a time; what to do is shown at the end.

			The current token is asked for on a terminal; else it comes from --token-file,
			K3S_TOKEN, or "-t -", which reads standard input. It is in server/token of the
			data directory on a server (/var/lib/rancher/k3s/server/token).

			Exactly one server is told: the first --server, by default the context's. Name
			the others too, or add --all-servers: if one of them does not answer to the
			current token, an earlier rotation was not finished, and nothing is changed. A
			second rotation through another server before all were restarted does damage, so
			a record of this one is left in the cluster (ConfigMap k3s-token-rotation in
			kube-system, without secrets), which "verify --all-servers" removes when every
			server answers to the new token.

			With --new-token-output the new token is in that file before anything is sent,
			and the file is removed again if the server has certainly not taken the token.
			Otherwise it is printed once the server has answered, or when it may have taken
			the token without saying so. Keep the old token: snapshots of the datastore from
			before the rotation cannot be restored without it.`,
		Example: `
			# What would be done, and whether the server is ready for it
			kubectl k3s-token rotate --token-file node-token --dry-run=server

			# Rotate the server token of the context's cluster; without --yes it asks
			kubectl k3s-token rotate --token-file node-token --new-token-output new-token --yes

			# Several servers: the first is told, and all are checked before
			kubectl k3s-token rotate --token-file node-token --new-token-output new-token --yes \
			  --server https://10.0.0.1:6443 --server https://10.0.0.2:6443 --server https://10.0.0.3:6443

			# When all are restarted: does every server answer to the new token alone?
			kubectl k3s-token verify --all-servers --token-file new-token --old-token-file node-token`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd, "token", "token-file", "new-token", "new-token-file", flagNewTokenOutput); err != nil {
				return err
			}
			options, err := flags.toOptions(cmd, env)
			if err != nil {
				return err
			}
			return options.run(cmd.Context())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags.supervisor.addFlags(cmd, "the current server token")
	f := cmd.Flags()
	f.Lookup("server").Usage = "K3s server to tell, as nodes dial it, such as https://k3s.example.com:6443; repeated, the others are checked first. Not the Kubernetes API, as kubectl's flag of that name: that is the context's. (default " + envServer + ", or the context's server)"
	f.Lookup("all-servers").Usage = "Check all control-plane nodes of the context's cluster first, by their internal addresses."
	f.Lookup("token").Usage = `The current server token, or "-" to read it from standard input. Others on this machine can read what stands on a command line. Not a bearer token for the Kubernetes API, as kubectl's flag of that name. (default ` + envToken + `, or asked for)`
	f.StringVar(&flags.newToken, "new-token", "", `The new server token, a password, or "-" to read it from standard input. Others on this machine can read what stands on a command line. (default a generated one)`)
	f.StringVar(&flags.newTokenFile, "new-token-file", "", "File that holds the new server token.")
	f.StringVar(&flags.newTokenOutput, flagNewTokenOutput, "", "Write the new token to this new file, readable by its owner only (on Windows, as its folder lets others read it), instead of standard output.")
	f.BoolVar(&flags.allowSpecial, "allow-special-characters", false, "Take a new token with printable characters that can break the env files, YAML and systemd units that hold it.")
	f.BoolVar(&flags.allowWeak, "allow-weak", false, "Take a new token that is short or can be guessed.")
	f.BoolVarP(&flags.yes, "yes", "y", false, "Do not ask.")
	f.BoolVar(&flags.force, "force", false, "Go on in spite of the record of an unfinished rotation, of a cluster that does not let a record be left, and of a server that is none of the cluster's nodes.")
	flags.dryRun.addFlags(cmd)
	f.Lookup("dry-run").Usage = `Must be "none", "server", or "client". If client strategy, only check the tokens, without sending anything. If server strategy, check the servers as well, and change nothing.`
	flags.output.addFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("new-token", "new-token-file")
	completeValues(cmd, "new-token")
	return cmd
}

// rotateOptions is a checked command line.
type rotateOptions struct {
	env         *Env
	supervisors *supervisors
	flags       *rotateFlags
	render      render // nil where the token is printed bare
	current     token.Token
	given       token.Secret // the new token as the user gave it; empty if generated
	next        supervisor.NewToken
	kubeconfig  []string // flags that lead a next command to the same cluster
}

func (f *rotateFlags) toOptions(cmd *cobra.Command, env *Env) (*rotateOptions, error) {
	o := &rotateOptions{env: env, flags: f, kubeconfig: kubeconfigFlags(cmd)}
	var err error
	if _, own := f.output.own(); !own {
		if o.render, err = f.output.toRender(); err != nil {
			return nil, err
		}
	}
	switch {
	case f.supervisor.token == "-" && f.newToken == "-":
		return nil, errors.New("--token and --new-token cannot both come from standard input: put one of them into a file")
	case !f.yes && f.dryRun == dryRunNone && !env.canAsk():
		return nil, errCannotAsk("rotate the server token")
	}
	if o.supervisors, err = f.supervisor.toSupervisors(env); err != nil {
		return nil, err
	}
	if o.current, err = f.currentToken(cmd.Context(), env); err != nil {
		return nil, err
	}
	return o, o.newToken()
}

// currentToken reads the current token, and asks for it on a terminal.
func (f *rotateFlags) currentToken(ctx context.Context, env *Env) (token.Token, error) {
	current, err := f.supervisor.readToken(env, nil)
	if errors.Is(err, errNoToken) {
		if !env.canAsk() {
			return token.Token{}, errors.New(`no current token given: use --token-file, "-t -" to read it from standard input, or ` + envToken)
		}
		var s string
		if s, err = env.askSecret(ctx, "Current server token: "); err == nil {
			current, err = token.Parse(s)
		}
	}
	switch {
	case err != nil:
		return token.Token{}, fmt.Errorf("the current token: %w", err)
	case current.Type() == token.Agent:
		return token.Token{}, errors.New("the current token is an agent token: only the server token can be rotated; it is in server/token of the data directory on a server node")
	}
	return current, nil
}

// newToken reads or generates the new token, and checks all of it but the CA
// hash that it may have.
func (o *rotateOptions) newToken() error {
	var s string
	var err error
	switch f := o.flags; {
	case f.newToken != "":
		s, err = o.env.readToken(f.newToken)
	case f.newTokenFile != "":
		s, err = readTokenFile(f.newTokenFile)
	case o.current.Type() == token.Bootstrap:
		return o.checkNewToken("", "") // which says why not
	default:
		o.next, err = supervisor.GenerateNewToken(o.env.Random)
		return err
	}
	if err != nil {
		return fmt.Errorf("the new token: %w", err)
	}
	o.given = token.Secret(s)
	hash := o.current.CAHash
	if hash == "" {
		if t, err := token.Parse(s); err == nil {
			hash = t.CAHash
		}
	}
	return o.checkNewToken(s, hash)
}

// checkNewToken decides whether a given string may become the server token.
func (o *rotateOptions) checkNewToken(s, caHash string) error {
	next, err := supervisor.CheckNewToken(s, o.current, caHash, supervisor.NewTokenOptions{
		AllowSpecial: o.flags.allowSpecial, AllowWeak: o.flags.allowWeak,
	})
	var refused *supervisor.NewTokenError
	if errors.As(err, &refused) {
		switch refused.Problem {
		case supervisor.Special:
			return fmt.Errorf("%w; or add --allow-special-characters, and quote the token wherever it stands", err)
		case supervisor.Weak:
			return fmt.Errorf("%w, or add --allow-weak", err)
		}
	}
	o.next = next
	return err
}

// run checks all that can be checked, asks, and rotates the token.
func (o *rotateOptions) run(ctx context.Context) error {
	if o.flags.dryRun == dryRunClient {
		o.env.note("The tokens are well-formed. Nothing was sent, and no server was asked (dry run).")
		return nil
	}
	if o.flags.newTokenOutput == "" && o.given == "" && o.flags.dryRun == dryRunNone {
		if err := o.env.refuseLostOutput(); err != nil {
			return err
		}
	}
	delivery, err := o.env.newDelivery(flagNewTokenOutput, o.flags.newTokenOutput, o.flags.dryRun != dryRunNone)
	if err != nil {
		return err
	}
	defer delivery.abandon()

	plan, err := o.preflight(ctx)
	if err != nil {
		return unchanged(err)
	}
	defer plan.session.Close()
	if err := o.tryPrint(plan); err != nil {
		return err
	}
	o.describe(plan)
	if o.flags.dryRun == dryRunServer {
		o.env.note("The server token was not rotated, and nothing was changed (server dry run).")
		return nil
	}
	if !o.flags.yes {
		if err := o.env.confirm(ctx, "rotate the server token of "+plan.cluster()); err != nil {
			return err
		}
	}
	return o.rotate(ctx, plan, delivery)
}

// tryPrint finds out, before there is a result, that a template does not fit it,
// or does not show a token that nobody else knows.
func (o *rotateOptions) tryPrint(plan *rotatePlan) error {
	result, err := o.print(plan, supervisor.Rotation{Outcome: supervisor.Rotated})
	if err != nil {
		return err
	}
	if o.given == "" && o.flags.newTokenOutput == "" && !bytes.Contains(result, []byte(o.next.Token().Secret.Reveal())) {
		return fmt.Errorf("--output=%s leaves out the new token, which nobody else knows: add .token to it, or --%s FILE", o.flags.output.format, flagNewTokenOutput)
	}
	return nil
}

// unchanged says of a failure that it came before anything was done. What has
// a wording of its own, such as an error of the API, keeps it.
func unchanged(err error) error {
	return errors.Join(err, errors.New("the server token was not rotated: nothing was changed"))
}

// rotate does what was agreed to. From here on there is a record in the
// cluster, and the new token is in the user's hands before, or at the latest
// when, the server can have it.
func (o *rotateOptions) rotate(ctx context.Context, plan *rotatePlan, delivery *delivery) error {
	if err := o.env.hold(); err != nil {
		return unchanged(err)
	}
	defer o.env.release()
	hand := &handOver{o: o, plan: plan, delivery: delivery}
	if err := hand.before(ctx); err != nil {
		return unchanged(err)
	}
	if err := o.begin(ctx, plan); err != nil {
		return errors.Join(unchanged(err), hand.takeBack())
	}
	if ctx.Err() != nil {
		return errors.Join(unchanged(context.Cause(ctx)), hand.takeBack(), o.unbegin(ctx, plan))
	}
	rotation := o.put(ctx, plan, hand)
	if rotation.Outcome == supervisor.NotRotated {
		return errors.Join(outcomeError("the server token was not rotated, and the old one holds", rotation.Err),
			hand.takeBack(), o.unbegin(ctx, plan))
	}
	failure := hand.after(ctx, rotation)
	o.finish(ctx, plan, rotation.Outcome)
	if rotation.Outcome == supervisor.Rotated {
		o.tellRotated(plan, hand)
		return failure
	}
	o.tellUnknown(plan, hand, rotation)
	return errors.Join(failure, outcomeError("it is not known whether the server token was rotated", rotation.Err))
}

// outcomeError says how a rotation ended, and why. The reason is text from here
// on: an interrupt has a wording of its own, in which the outcome is lost.
func outcomeError(outcome string, reason error) error {
	if errors.Is(reason, context.Canceled) {
		reason = errors.New("interrupted before the server had answered")
	}
	return fmt.Errorf("%s: %v", outcome, reason) //nolint:errorlint // see above
}

// put sends the new token to the server. An interrupt waits a moment for the
// answer, since then the outcome is known; the new token is printed first.
func (o *rotateOptions) put(ctx context.Context, plan *rotatePlan, hand *handOver) supervisor.Rotation {
	bounded, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan supervisor.Rotation, 1)
	go func() { done <- plan.session.Rotate(bounded, o.current, o.next) }()
	select {
	case rotation := <-done:
		return rotation
	case <-ctx.Done():
	}
	o.env.note("Interrupted while the server is rotating the token: waiting up to %s for its answer.", answerGrace)
	hand.early(ctx)
	timer := time.AfterFunc(answerGrace, cancel)
	defer timer.Stop()
	return <-done
}

// handOver brings the new token to the user.
type handOver struct {
	o        *rotateOptions
	plan     *rotatePlan
	delivery *delivery
	file     string // that holds the new token, as far as it is known
	printed  bool   // the user has it, or more, on standard output
}

// where says where the user finds the new token.
func (h *handOver) where() string {
	switch {
	case h.file != "":
		return "in " + h.file
	case h.o.given != "":
		return "the one that you gave"
	case h.printed:
		return "on standard output"
	}
	return fmt.Sprintf("in server/token of the data directory on %s", h.plan.server)
}

func (h *handOver) line() []byte {
	return []byte(h.o.next.Token().WithCAHash(h.plan.session.CAHash()).Reveal() + "\n")
}

// before writes the file, if there is to be one.
func (h *handOver) before(ctx context.Context) error {
	h.file = h.o.flags.newTokenFile
	if h.o.flags.newTokenOutput == "" {
		return nil
	}
	if err := h.delivery.write(ctx, h.line()); err != nil {
		return err
	}
	h.file = h.o.flags.newTokenOutput
	return nil
}

// takeBack removes the file again: its token has come to nothing.
func (h *handOver) takeBack() error {
	switch {
	case h.printed:
		h.o.env.note("The token that was printed is not in use: forget it.")
		return nil
	case h.o.flags.newTokenOutput == "":
		return nil
	}
	if err := h.delivery.retract(); err != nil {
		return fmt.Errorf("%s holds a token that is not in use: remove it: %w", h.file, err)
	}
	h.o.env.note("%s was removed again: its token is not in use.", h.file)
	return nil
}

// early prints the token before the outcome is known.
func (h *handOver) early(ctx context.Context) {
	if h.o.flags.newTokenOutput == "" && h.o.render == nil {
		h.printed = h.o.env.deliverResult(ctx, h.line()) == nil
	}
}

// after prints the result. A token that cannot be printed is saved to a file.
func (h *handOver) after(ctx context.Context, rotation supervisor.Rotation) error {
	fileOnly := h.o.flags.newTokenOutput != "" && h.o.render == nil
	if h.printed || fileOnly {
		return nil
	}
	result, err := h.o.print(h.plan, rotation)
	if err == nil {
		err = h.o.env.deliverResult(ctx, result)
		h.printed = err == nil
	}
	if err == nil || h.o.flags.newTokenOutput != "" || h.o.given != "" {
		return err
	}
	file, saveErr := h.save()
	if saveErr != nil {
		return errors.Join(undelivered(err), saveErr,
			fmt.Errorf("the new token is in server/token of the data directory on %s", h.plan.server))
	}
	h.file = file
	return fmt.Errorf("%w; it was saved to %s instead", undelivered(err), file)
}

// save writes the token to the first place that takes it.
func (h *handOver) save() (string, error) {
	home, _ := os.UserHomeDir()
	var errs []error
	for _, dir := range []string{".", home, os.TempDir()} {
		file, err := os.CreateTemp(dir, "k3s-new-server-token-*") // see newDelivery for who can read it
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_, err = file.Write(h.line())
		if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
			if absolute, err := filepath.Abs(file.Name()); err == nil {
				return absolute, nil
			}
			return file.Name(), nil
		}
		errs = append(errs, err, os.Remove(file.Name()))
	}
	return "", errors.Join(errs...)
}

// print returns what goes to standard output.
func (o *rotateOptions) print(plan *rotatePlan, rotation supervisor.Rotation) ([]byte, error) {
	next := o.next.Token().WithCAHash(plan.session.CAHash())
	if o.render == nil {
		return []byte(next.Reveal() + "\n"), nil
	}
	result := &TokenRotation{
		TypeMeta: typeMeta("TokenRotation"),
		Server:   plan.server.String(),
		Outcome:  string(rotation.Outcome),
		Token:    next.Reveal(),
		CAHash:   plan.session.CAHash(),
		ErrorID:  rotation.ErrorID,
		Restart:  plan.restart(),
	}
	if o.flags.newTokenOutput != "" {
		result.Token = ""
	}
	if rotation.Err != nil {
		result.Reason = rotation.Err.Error()
	}
	return o.render(result, o.next.Token().Secret, o.current.Secret)
}

// tellRotated says what is left to do.
func (o *rotateOptions) tellRotated(plan *rotatePlan, hand *handOver) {
	name := string(plan.session.Distribution())
	service, agent := name, name+"-agent"
	if plan.session.Distribution() == supervisor.RKE2 {
		service = name + "-server"
	}
	note, step := o.env.note, 0
	next := func(format string, args ...any) {
		step++
		note("  %d. %s", step, fmt.Sprintf(format, args...))
	}
	note("The server token is rotated; the new one is %s. The servers go on with the old one until they are restarted, and do not start with it any more. Now, in this order:", hand.where())
	next("On every server put the new token where the old one stands: /etc/rancher/%s/config.yaml, /etc/systemd/system/%s.service and %s.service.env, or the file that --token-file names.", name, service, service)
	next("Restart %s first (systemctl restart %s), and wait until it is ready.", plan.server, service)
	switch {
	case len(plan.others) > 0:
		next("Restart the other servers, one at a time: %s.", strings.Join(urlStrings(plan.others), ", "))
	case !plan.single():
		next("Restart the other servers, if there are any, one at a time.")
	}
	if plan.finding.JoinsAgents() {
		next("On every agent that joined with the server token do the same (%s.service.env; systemctl restart %s).", agent, agent)
	}
	next("Check that every server answers to the new token alone: %s", o.verifyCommand(plan, hand))
	if !plan.finding.JoinsAgents() {
		note("The agents have a token of their own, and stay as they are.")
	}
	note("Keep the old token for as long as you keep snapshots from before: they cannot be restored without it.")
}

// tellUnknown says how to find out.
func (o *rotateOptions) tellUnknown(plan *rotatePlan, hand *handOver, rotation supervisor.Rotation) {
	note := o.env.note
	note("Keep both tokens, and restart no server yet. The new one is %s.", hand.where())
	name := string(plan.session.Distribution())
	service := name
	if plan.session.Distribution() == supervisor.RKE2 {
		service = name + "-server"
	}
	if retriable(rotation) {
		note("Repeat it through the same server with the same new token, which is safe: %s", o.repeatCommand(plan, hand))
		return
	}
	search := "token error ID"
	if rotation.ErrorID != "" {
		search += " " + rotation.ErrorID
	}
	note("Do not repeat it before you know what the server has written. On %s:", plan.server)
	note("  journalctl -u %s | grep %s", service, shellQuote(search))
	note("  compare /var/lib/rancher/%s/server/token with the old and the new token: the server has to be restarted with the one that stands there", name)
}

// retriable tells whether the server, as far as can be told, is none the worse
// for another try.
func retriable(r supervisor.Rotation) bool {
	return r.Status == 0 || slices.Contains([]int{429, 502, 503, 504}, r.Status)
}

// verifyCommand is the command that tells whether all is done.
func (o *rotateOptions) verifyCommand(plan *rotatePlan, hand *handOver) string {
	args := []string{"verify"}
	if plan.recorded() {
		args = append(args, "--all-servers")
	}
	if !plan.recorded() || plan.named {
		for _, url := range append([]supervisor.URL{plan.server}, plan.others...) {
			args = append(args, "--server", url.String())
		}
	}
	args = append(args, "--token-file", orPlaceholder(hand.file, "NEW-TOKEN-FILE"))
	if old := o.flags.supervisor.tokenFile; old != "" {
		args = append(args, "--old-token-file", old)
	}
	return o.nextCommand(args)
}

// repeatCommand is the command that tries the same again.
func (o *rotateOptions) repeatCommand(plan *rotatePlan, hand *handOver) string {
	args := []string{"rotate", "--server", plan.server.String()}
	for _, url := range plan.others {
		args = append(args, "--server", url.String())
	}
	args = append(args,
		"--token-file", orPlaceholder(o.flags.supervisor.tokenFile, "OLD-TOKEN-FILE"),
		"--new-token-file", orPlaceholder(hand.file, "NEW-TOKEN-FILE"))
	if o.flags.supervisor.trustServer {
		args = append(args, "--"+flagTrustServer)
	}
	if o.flags.supervisor.trustSystemCAs {
		args = append(args, "--"+flagTrustSystemCAs)
	}
	if o.flags.allowSpecial {
		args = append(args, "--allow-special-characters")
	}
	if o.flags.allowWeak {
		args = append(args, "--allow-weak")
	}
	return o.nextCommand(args)
}

func (o *rotateOptions) nextCommand(args []string) string {
	words := []string{Name}
	for _, arg := range append(args, o.kubeconfig...) {
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// kubeconfigFlags returns those of a command line that say which cluster it is.
func kubeconfigFlags(cmd *cobra.Command) []string {
	var flags []string
	for _, name := range []string{"kubeconfig", "context", "cluster", "user"} {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			flags = append(flags, "--"+name, flag.Value.String())
		}
	}
	return flags
}

func orPlaceholder(value, placeholder string) string {
	if value == "" {
		return placeholder
	}
	return value
}

func urlStrings(urls []supervisor.URL) []string {
	s := make([]string, len(urls))
	for i, url := range urls {
		s[i] = url.String()
	}
	return s
}
