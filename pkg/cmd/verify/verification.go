package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// verify tries the tokens on one server. It goes on for some seconds if the server refuses
// a token that is valid in the cluster: a server learns of a new one with a delay.
func (o *Options) verify(ctx context.Context, url supervisor.URL) (v v1alpha1.Verification) {
	backoff := wait.Backoff{Duration: time.Second, Steps: 5}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (done bool, _ error) {
		v = o.try(ctx, url)
		isValid := v.BootstrapToken != nil && v.BootstrapToken.Status == string(bootstrap.Active)
		return v.Verdict != string(supervisor.Refused) || !isValid, nil
	})
	if o.OldTokenFile != "" && v.CAHash != "" {
		old := o.oldToken.WithCAHash(cmp.Or(o.oldToken.CAHash, v.CAHash)) // one cluster has one CA
		v.OldToken = string(o.Try(ctx, url, old, supervisor.Server, o.servers.Options(url)).Verdict)
	}
	return v
}

// try tries the token once, in each role.
func (o *Options) try(ctx context.Context, url supervisor.URL) v1alpha1.Verification {
	v := v1alpha1.Verification{Server: url.String(), Token: v1alpha1.NewTokenInfo(o.token)}
	roles := o.roles()
	reports := make([]supervisor.Report, len(roles))
	cmdutil.ForEach(ctx, len(roles), func(i int) error {
		reports[i] = o.Try(ctx, url, o.token, roles[i], o.servers.Options(url))
		return nil
	})
	for i, report := range reports {
		add(&v, roles[i], report)
	}
	if o.token.Type() == token.Bootstrap {
		o.lookUp(ctx, &v)
	}
	return v
}

// add adds the result for one role.
func add(v *v1alpha1.Verification, role supervisor.Role, report supervisor.Report) {
	r := v1alpha1.VerificationRole{
		Role:       string(role),
		Joins:      report.Err == nil,
		Verdict:    string(report.Verdict),
		HostTrusts: report.HostTrusts,
	}
	for _, step := range report.Steps {
		r.Steps = append(r.Steps, v1alpha1.VerificationStep(step))
	}
	if report.Err != nil {
		r.Reason, r.Hint = report.Err.Error(), hint.Of(report.Err)
	}
	v.Roles = append(v.Roles, r)
	v.CAHash = cmp.Or(v.CAHash, report.CAHash)
	v.Distribution = cmp.Or(v.Distribution, string(report.Distribution))
	if v.Verdict == "" || report.Verdict == supervisor.Accepted {
		v.Verdict = r.Verdict
	}
	v.JoinsAgents = v.JoinsAgents || r.Joins && role == supervisor.Agent
	v.JoinsServers = v.JoinsServers || r.Joins && role == supervisor.Server
}

// lookUp adds the stored token and explains a refusal, if the bootstrap token is of the
// context's cluster.
func (o *Options) lookUp(ctx context.Context, v *v1alpha1.Verification) {
	caHash := cmp.Or(v.CAHash, o.token.CAHash)
	if caHash == "" || caHash != o.servers.ContextCA(ctx).Hash {
		return
	}
	store := bootstrap.NewStore(o.servers.Cluster.Client.Secrets(bootstrap.Namespace))
	stored, err := store.Get(ctx, bootstrap.Ref{SecretName: bootstraputil.BootstrapTokenSecretName(o.token.ID)})
	if err == nil && (stored.Secret == o.token.Secret || stored.Problem != "") {
		shown := v1alpha1.NewBootstrapToken(stored, time.Now())
		v.BootstrapToken = &shown
	}
	if r := &v.Roles[0]; r.Verdict == string(supervisor.Refused) { // it is tried in one role
		r.Hint = explainRefusal(v.BootstrapToken, err)
	}
}

// explainRefusal says why a server refuses a bootstrap token, which is nil if the
// cluster has another secret for its id.
func explainRefusal(t *v1alpha1.BootstrapToken, err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return "the cluster has no token with this id: it has expired, was deleted, or is another cluster's"
	case err != nil:
		return fmt.Sprintf("the cluster does not tell why: %v", err)
	case t == nil:
		return "the cluster has a token with this id and another secret: it is mistyped, or another cluster's"
	case t.Status != string(bootstrap.Active):
		return strings.TrimSuffix("create a new token, since this one is "+strings.ToLower(t.Status)+": "+t.Problem, ": ")
	}
	return "the cluster has the token, and it is valid: try again in a moment"
}

// printText prints the steps and the conclusions for one server, and a table for
// several.
func printText(obj runtime.Object, w io.Writer) error {
	v, ok := obj.(*v1alpha1.Verification)
	if !ok {
		return cmdutil.PrintTable(obj, w)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "Server:\t%s\nToken:\t%s\nCA hash:\t%s\n\n", v.Server, describe(v), cmp.Or(v.CAHash, "<unknown>"))
	printSteps(&out, v.Roles)
	if t := v.BootstrapToken; t != nil {
		_, expires := cmdutil.Lifetime(t, time.Now())
		groups, usages := strings.Join(t.Groups, ","), strings.Join(t.Usages, ",")
		fmt.Fprintf(&out, "Description:\t%s\nExpires:\t%s\nGroups:\t%s\nUsages:\t%s\n\n",
			cmp.Or(t.Description, "<none>"), expires, cmp.Or(groups, "<none>"), cmp.Or(usages, "<none>"))
	}
	printConclusions(&out, v)
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(columns, out.String())
	return errors.Join(err, columns.Flush())
}

func describe(v *v1alpha1.Verification) string {
	described := cmdutil.TokenKind(token.Type(v.Token.Type))
	if v.Token.ID != "" {
		described += " " + v.Token.ID
	}
	if v.Token.CAHash == "" {
		described += ", without a CA hash"
	}
	if t := v.BootstrapToken; t != nil && t.Status == string(bootstrap.Invalid) {
		described += fmt.Sprintf("; secret/%s is malformed: %s", t.Name, t.Problem)
	}
	return described
}

// printSteps prints a line for each step, with a column for each role.
func printSteps(out *strings.Builder, roles []v1alpha1.VerificationRole) {
	longest := slices.MaxFunc(roles, func(a, b v1alpha1.VerificationRole) int { return len(a.Steps) - len(b.Steps) })
	line := "STEP"
	for _, role := range roles {
		line += "\t" + strings.ToUpper(role.Role)
	}
	fmt.Fprintln(out, line)
	for i, step := range longest.Steps {
		line := fmt.Sprintf("%d  %s", i+1, step.Name)
		for _, role := range roles {
			line += "\t"
			if i < len(role.Steps) {
				line += strings.Replace(role.Steps[i].Status, supervisor.Passed, "ok", 1)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line, "\t"))
	}
	fmt.Fprintln(out)
}

// printConclusions says for each role whether a node joins.
func printConclusions(out *strings.Builder, v *v1alpha1.Verification) {
	hostTrusts := false
	for _, r := range v.Roles {
		article := map[string]string{"agent": "an", "server": "a"}[r.Role]
		fmt.Fprintf(out, "As %s %s:\t%s\n", article, r.Role, conclusion(r))
		if r.Hint != "" {
			fmt.Fprintf(out, "\thint: %s\n", r.Hint)
		}
		hostTrusts = hostTrusts || r.HostTrusts && r.Joins
	}
	if v.OldToken != "" {
		fmt.Fprintf(out, "Old token:\t%s\n", v.OldToken)
	}
	if hostTrusts {
		fmt.Fprintln(out, "This machine's trusted CAs vouch for the server: a node that has them ignores the CA hash.")
	}
}

func conclusion(r v1alpha1.VerificationRole) string {
	if r.Joins {
		return "joins"
	}
	lead := "does not join"
	switch supervisor.Verdict(r.Verdict) {
	case supervisor.Unproved:
		lead = "not sent, but a node sends it"
	case supervisor.NoAnswer:
		lead = "not known"
	}
	return lead + ": " + r.Reason
}
