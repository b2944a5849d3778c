package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// underWay is how long a rotation may take from its record to its outcome, the
// repetitions of a lost request included.
const underWay = 3 * time.Minute

// recordBound is how long the record of a rotation is tried to be brought up to
// date, also after an interrupt.
const recordBound = 10 * time.Second

// rotatePlan is what a rotation will do, as far as it was checked.
type rotatePlan struct {
	server supervisor.URL   // that is told
	others []supervisor.URL // that are checked
	named  bool             // by the user

	session *supervisor.Session
	finding supervisor.Finding // on the server that is told
	facts   *clusterAnswers

	store    *cluster.RotationStore // nil where no record can be left
	previous *cluster.Rotation
	begun    *cluster.Rotation
}

func (p *rotatePlan) recorded() bool { return p.store != nil }

// single tells whether the cluster is known to have one server only.
func (p *rotatePlan) single() bool { return p.recorded() && p.facts.single() }

// restart returns the servers in the order in which they are to be restarted.
func (p *rotatePlan) restart() []string {
	return urlStrings(append([]supervisor.URL{p.server}, p.others...))
}

// cluster names the cluster for a question to the user.
func (p *rotatePlan) cluster() string {
	if !p.recorded() {
		return "the cluster of " + p.server.String()
	}
	return p.facts.name + " through " + p.server.String()
}

// preflight checks all that can be checked before the server is told. It
// changes nothing.
func (o *rotateOptions) preflight(ctx context.Context) (*rotatePlan, error) {
	plan, err := o.chooseServers(ctx)
	if err != nil {
		return nil, err
	}
	contextCA := o.supervisors.contextCA(ctx)
	asking, stop := context.WithCancel(ctx)
	plan.facts = o.askCluster(asking, contextCA)
	err = o.check(ctx, plan, contextCA)
	stop()
	plan.facts.running.Wait()
	if err == nil {
		return plan, nil
	}
	if plan.session != nil {
		plan.session.Close()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, err
}

// check asks the servers first, and then looks at what the cluster's API says.
func (o *rotateOptions) check(ctx context.Context, plan *rotatePlan, contextCA caSource) error {
	if err := o.connect(ctx, plan, contextCA); err != nil {
		return err
	}
	if o.given != "" { // now against the CA hash that counts
		if err := o.checkNewToken(o.given.Reveal(), plan.session.CAHash()); err != nil {
			return err
		}
	}
	if err := o.probe(ctx, plan, contextCA); err != nil {
		return err
	}
	plan.facts.running.Wait()
	if err := o.checkRecord(ctx, plan); err != nil {
		return err
	}
	if !plan.recorded() {
		return nil
	}
	if version := plan.facts.version.GitVersion; supervisor.MalformedTokenBug(version) == supervisor.Exposed {
		o.env.warn("the server is %s, which has the bug k3s-io/k3s#12982: given a new token in bootstrap form it does not start again. Such a token is refused here, but not by k3s token rotate on the server: upgrade K3s", version)
	}
	return o.checkNodes(plan)
}

// chooseServers decides which server is told, and which are checked.
func (o *rotateOptions) chooseServers(ctx context.Context) (*rotatePlan, error) {
	s := o.supervisors
	plan := &rotatePlan{named: len(s.named) > 0}
	urls := s.named
	if !o.flags.supervisor.allServers {
		var err error
		if urls, err = s.servers(ctx); err != nil {
			return nil, err
		}
	} else {
		nodes, err := s.controlPlane(ctx)
		if err != nil {
			return nil, err
		}
		// The context's own server is told if it is one of them, and not a
		// load balancer.
		if own, err := contextURL(s.conn.config); !plan.named && err == nil && slices.Contains(nodes, own) {
			urls = append(urls, own)
		}
		urls = append(slices.Clone(urls), nodes...)
	}
	plan.server = urls[0]
	for _, url := range urls[1:] {
		if url != plan.server && !slices.Contains(plan.others, url) {
			plan.others = append(plan.others, url)
		}
	}
	return plan, nil
}

// connect takes the four steps after which the server that is told has proved
// who it is, and shows them.
func (o *rotateOptions) connect(ctx context.Context, plan *rotatePlan, contextCA caSource) error {
	o.env.note("Checking %s:", plan.server)
	var err error
	plan.session, err = o.open(ctx, plan.server, contextCA, o.showStep)
	return err
}

func (o *rotateOptions) showStep(step supervisor.Step) {
	o.env.note("%d  %-33s  %-7s  %s", step.Number, step.Name, stepResult(step.Status), printable(step.Detail))
}

func (o *rotateOptions) open(ctx context.Context, url supervisor.URL, contextCA caSource, observe func(supervisor.Step)) (session *supervisor.Session, err error) {
	err = o.supervisors.trusting(o.current, contextCA, observe, func(opts supervisor.Options) error {
		var err error
		session, err = supervisor.Connect(ctx, url, opts)
		return err
	})
	return session, err
}

// probe takes the fifth step: the current token is the server's, and every
// other server's. Those that disagree have seen a rotation that was never
// finished.
func (o *rotateOptions) probe(ctx context.Context, plan *rotatePlan, contextCA caSource) error {
	failures := make([]error, len(plan.others))
	var running sync.WaitGroup
	for i, url := range plan.others {
		running.Go(func() { failures[i] = o.probeOther(ctx, url, plan.session.CAHash(), contextCA) })
	}
	finding, err := plan.session.Probe(ctx, o.current)
	running.Wait()
	if err == nil {
		err = o.judge(finding)
	}
	plan.finding = finding
	last := supervisor.Step{Number: supervisor.StepCredentials, Name: supervisor.StepName(supervisor.StepCredentials), Status: supervisor.Passed, Detail: "the current token is the server token"}
	if err != nil {
		last.Status, last.Detail = supervisor.Failed, err.Error()
	}
	o.showStep(last)

	disagree, accepted := false, err == nil
	for i, failure := range failures {
		if failure == nil {
			accepted = true
			o.env.note("%s answers to it as well.", plan.others[i])
		}
		disagree = disagree || isRefusal(failure)
	}
	disagree = disagree || isRefusal(err)
	if err != nil {
		err = fmt.Errorf("%s: %w", plan.server, err)
	}
	if err = errors.Join(append([]error{err}, failures...)...); err == nil {
		return nil
	}
	if disagree && accepted {
		return errors.Join(err, errors.New("some servers answer to the current token and some do not: an earlier rotation was not finished; restart those that do not answer to the newest token with that one, then rotate"))
	}
	return err
}

func isRefusal(err error) bool {
	var refused *supervisor.NotAcceptedError
	return errors.As(err, &refused) && refused.Finding.Servers.Verdict == supervisor.Refused
}

func (o *rotateOptions) probeOther(ctx context.Context, url supervisor.URL, caHash string, contextCA caSource) error {
	session, err := o.open(ctx, url, contextCA, func(supervisor.Step) {})
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	defer session.Close()
	if session.CAHash() != caHash {
		return fmt.Errorf("%s has another CA: it is a server of another cluster", url)
	}
	finding, err := session.Probe(ctx, o.current)
	if err == nil {
		err = o.judge(finding)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

// judge says why a token that was tried is not the server token.
func (o *rotateOptions) judge(finding supervisor.Finding) error {
	switch {
	case finding.JoinsServers():
		return nil
	case finding.JoinsAgents():
		return errors.New("the current token is the agent token's password, with which nothing can be rotated: give the server token, which is in server/token of the data directory on a server node")
	}
	return &supervisor.NotAcceptedError{Finding: finding, Type: token.Server}
}

// clusterAnswers is what the Kubernetes API of the context says. Each part may
// be missing, for the reason next to it.
type clusterAnswers struct {
	name      string
	ca        cluster.CA
	caErr     error
	record    *cluster.Rotation
	recordErr error
	version   cluster.Version
	nodes     []*corev1.Node
	user      string

	running sync.WaitGroup
}

func (a *clusterAnswers) single() bool { return len(a.nodes) == 1 }

// askCluster asks the API for all that is of use, side by side.
func (o *rotateOptions) askCluster(ctx context.Context, contextCA caSource) *clusterAnswers {
	a := &clusterAnswers{}
	conn := o.supervisors.conn
	if conn == nil {
		return a
	}
	a.name = conn.cluster()
	ask := func(do func(ctx context.Context)) {
		a.running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, learnBound)
			defer cancel()
			do(ctx)
		})
	}
	ask(func(context.Context) { a.ca, a.caErr = contextCA() })
	ask(func(ctx context.Context) {
		a.record, a.recordErr = cluster.NewRotationStore(conn.configMaps()).Get(ctx)
	})
	// What follows makes things better, and is not missed where it is not told.
	ask(func(ctx context.Context) { a.version, _ = o.supervisors.version(ctx) })
	ask(func(ctx context.Context) { a.nodes, _ = o.supervisors.serverNodes(ctx) })
	ask(func(ctx context.Context) { a.user, _ = cluster.FetchUser(ctx, conn) })
	return a
}

// checkRecord finds out whether a record of the rotation can be left in the
// cluster, and whether somebody else's is in the way.
func (o *rotateOptions) checkRecord(ctx context.Context, plan *rotatePlan) error {
	a := plan.facts
	if reason := o.unreachable(plan); reason != "" {
		o.env.warn("%s: no record of the rotation is looked for or left, so make sure that nobody else has rotated the token since all servers were restarted", reason)
		return nil
	}
	store, previous := cluster.NewRotationStore(o.supervisors.conn.configMaps()), a.record
	err := a.recordErr
	if err == nil {
		if err := o.checkPrevious(plan, previous); err != nil {
			return err
		}
		record := o.newRecord(plan)
		if record.Mark, err = cluster.NewMark(o.env.Random, o.current.Secret, o.next.Token().Secret); err != nil {
			return err
		}
		err = store.TryBegin(ctx, record, previous)
	}
	switch conflict := new(cluster.RotationConflictError); {
	case err == nil:
		plan.store, plan.previous = store, previous
		return nil
	case errors.As(err, &conflict):
		return err
	case !o.flags.force:
		return errors.Join(err, fmt.Errorf("the cluster does not let a record of the rotation be left (ConfigMap %s in kube-system), without which nobody can tell that a rotation is unfinished: get the permission, or add --force to go without", cluster.RotationRecord))
	}
	o.env.warn("no record of the rotation is left: %v", err)
	return nil
}

// unreachable says why the context does not lead to the cluster whose token is
// rotated, or nothing.
func (o *rotateOptions) unreachable(plan *rotatePlan) string {
	a := plan.facts
	var status apierrors.APIStatus
	switch {
	case o.supervisors.conn == nil:
		return "there is no kubeconfig context"
	case a.caErr == nil && a.ca.Hash != plan.session.CAHash():
		return "the kubeconfig's context leads to another cluster, as the CA tells"
	case a.recordErr != nil && !errors.As(a.recordErr, &status):
		return fmt.Sprintf("the kubeconfig's context does not reach its cluster (%v)", a.recordErr)
	case a.caErr != nil:
		return "whether the kubeconfig's context leads to this cluster cannot be told from its CA"
	}
	return ""
}

func (o *rotateOptions) newRecord(plan *rotatePlan) cluster.Rotation {
	return cluster.Rotation{
		State: cluster.RotationStarted, Server: plan.server.String(), CAHash: plan.session.CAHash(),
		Started: o.supervisors.now(), By: plan.facts.user,
	}
}

// checkPrevious decides whether an earlier rotation is in the way, by its
// record.
func (o *rotateOptions) checkPrevious(plan *rotatePlan, previous *cluster.Rotation) error {
	if previous == nil {
		return nil
	}
	about := fmt.Sprintf("a rotation of the server token through %s, begun %s", orPlaceholder(previous.Server, "an unknown server"), o.since(previous.Started))
	if previous.By != "" {
		about += " by " + previous.By
	}
	next := o.next.Token().Secret
	age := o.supervisors.now().Sub(previous.Started)
	current := previous.IsNew(o.current.Secret)
	switch {
	case o.flags.force:
		o.env.warn("%s, is not finished as far as is known", about)
	case previous.State == cluster.RotationStarted && age.Abs() < underWay:
		return fmt.Errorf("%s, may be under way at this moment: try again in %s, or add --force if you know that it has ended", about, underWay)
	case current && (o.flags.supervisor.allServers || plan.facts.single()):
		o.env.note("%s, is finished: every server answers to its token.", about)
	case previous.Server == plan.server.String() && !current && previous.IsNew(next) && o.given != "":
		o.env.note("This repeats %s.", about)
	case previous.Server == plan.server.String() && current:
		o.env.warn("%s, is finished on this server, which answers to its token: whether it is on the others is not known, add --all-servers to find out", about)
	case previous.Server == plan.server.String():
		o.env.warn("%s, is not finished as far as is known: going on through the same server is safe, and makes its new token void where that is in use nowhere yet", about)
	case current:
		return fmt.Errorf("%s, is not finished as far as is known, and another one through %s would do damage: add --all-servers, which finds out whether every server answers to its token by now", about, plan.server)
	default:
		return fmt.Errorf("%s, is not finished, and another one through %s would do damage: finish it (restart every server with its token, then run: %s verify --all-servers with that token), or go through the same server with --server %s, or add --force if you know better", about, plan.server, Name, previous.Server)
	}
	return nil
}

func (o *rotateOptions) since(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return fromNow(t, o.supervisors.now())
}

// checkNodes makes sure that, where there are several servers, it is one of
// them that is told. Behind a load balancer a repeated request could reach
// another server, which does damage.
func (o *rotateOptions) checkNodes(plan *rotatePlan) error {
	nodes := plan.facts.nodes
	if len(nodes) < 2 {
		return nil
	}
	if !leadsToOne(plan.session, plan.server, nodes) {
		server := plan.server.String()
		if plan.session.Proxied() {
			server += ", as far as can be told through a proxy,"
		}
		var names []string
		for _, node := range nodes {
			if ip := internalIP(node); ip != "" {
				names = append(names, ip)
			}
		}
		if !o.flags.force {
			return fmt.Errorf("the cluster has %d servers, and %s is none of them: behind a load balancer a repeated request can reach another server and do damage; name one of the servers with --server (%s), or add --force if it leads to one server only", len(nodes), server, strings.Join(names, ", "))
		}
		o.env.warn("%s is none of the cluster's %d servers: make sure that it leads to one of them only", server, len(nodes))
	}
	if checked := 1 + len(plan.others); checked < len(nodes) {
		o.env.warn("the cluster has %d servers, and %d is checked: add --all-servers, or name the others with --server as well", len(nodes), checked)
	}
	return nil
}

// leadsToOne tells whether the session's connections all lead to one server: to
// a node of the cluster, or into a tunnel that ends on this machine. Through a
// proxy nothing but the server's own address tells: the connections end at the
// proxy, often on this machine as well, and it is the proxy that looks up a name
// or knows what is a loopback address.
func leadsToOne(session *supervisor.Session, server supervisor.URL, nodes []*corev1.Node) bool {
	if isNode(nodes, server.Host()) {
		return true
	}
	if session.Proxied() {
		return false
	}
	remote, _, err := net.SplitHostPort(session.Remote())
	return err == nil && (isLoopbackAddress(remote) || isNode(nodes, remote))
}

func isLoopbackAddress(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.IsLoopback()
}

// isNode tells whether one of the nodes has one of the addresses.
func isNode(nodes []*corev1.Node, addresses ...string) bool {
	for _, node := range nodes {
		for _, address := range node.Status.Addresses {
			if address.Address != "" && slices.Contains(addresses, strings.ToLower(address.Address)) {
				return true
			}
		}
	}
	return false
}

// describe shows what is about to happen.
func (o *rotateOptions) describe(plan *rotatePlan) {
	how, where := "generated", "printed on standard output once the server has answered"
	if o.given != "" {
		how = "yours"
	}
	if file := o.flags.newTokenOutput; file != "" {
		where = "written to " + file + " before the server is told"
	}
	record := "none"
	if plan.recorded() {
		record = fmt.Sprintf("ConfigMap %s in kube-system", cluster.RotationRecord)
	}
	version := string(plan.session.Distribution())
	if plan.recorded() && plan.facts.version.GitVersion != "" {
		version = plan.facts.version.GitVersion
	}
	o.env.note("")
	o.env.note("Server:     %s (%s)", plan.server, version)
	if len(plan.others) > 0 {
		o.env.note("Others:     %s", strings.Join(urlStrings(plan.others), ", "))
	}
	o.env.note("New token:  %s, %s", how, where)
	o.env.note("Record:     %s", record)
	o.env.note("After that: every server has to be restarted with the new token, one at a time; until then they go on with the old one")
	o.env.note("")
}

// begin leaves the record.
func (o *rotateOptions) begin(ctx context.Context, plan *rotatePlan) error {
	if !plan.recorded() {
		return nil
	}
	record, previous := o.newRecord(plan), plan.previous
	old, next := o.current.Secret, o.next.Token().Secret
	if previous != nil && previous.IsNew(next) && !previous.IsNew(old) {
		record.Mark = previous.Mark // of the same two tokens, and good as it is
	} else {
		var err error
		if record.Mark, err = cluster.NewMark(o.env.Random, old, next); err != nil {
			return err
		}
	}
	// An interrupt in the middle would leave it open whether there is a record.
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordBound)
	defer cancel()
	var err error
	plan.begun, err = plan.store.Begin(detached, record, previous)
	if err != nil && !isAnswer(err) {
		err = errors.Join(err, fmt.Errorf("a record of this rotation may have been left all the same: it is ConfigMap %s in kube-system", cluster.RotationRecord))
	}
	return err
}

// isAnswer tells whether the error is the word of the API server, or follows
// from it.
func isAnswer(err error) bool {
	var conflict *cluster.RotationConflictError
	return isAPIStatus(err) || errors.As(err, &conflict)
}

// unbegin takes the record back: nothing has come of the rotation.
func (o *rotateOptions) unbegin(ctx context.Context, plan *rotatePlan) error {
	if plan.begun == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordBound)
	defer cancel()
	var err error
	if plan.previous == nil {
		err = plan.store.Remove(ctx, plan.begun)
	} else {
		_, err = plan.store.Begin(ctx, *plan.previous, plan.begun)
	}
	if err != nil {
		return errors.Join(err, fmt.Errorf("the record of the rotation could not be taken back: it is ConfigMap %s in kube-system", cluster.RotationRecord))
	}
	return nil
}

// finish says in the record what has become of the rotation.
func (o *rotateOptions) finish(ctx context.Context, plan *rotatePlan, outcome supervisor.Outcome) {
	if plan.begun == nil {
		return
	}
	state := cluster.RotationDone
	if outcome == supervisor.Unknown {
		state = cluster.RotationUnknown
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordBound)
	defer cancel()
	if _, err := plan.store.Finish(ctx, plan.begun, state, o.supervisors.now()); err != nil {
		o.env.warn("the record of the rotation (ConfigMap %s in kube-system) does not say how it ended: %v", cluster.RotationRecord, err)
	}
}
