package verify

import (
	"cmp"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// verify tries the token on one server, in each role.
func (o *Options) verify(ctx context.Context, url supervisor.URL) v1alpha1.Verification {
	v := v1alpha1.Verification{Server: url.String(), Token: v1alpha1.NewTokenInfo(o.token)}
	roles, options := o.roles(), o.servers.Options(url, o.token)
	reports := make([]supervisor.Report, len(roles))
	cmdutil.ForEach(ctx, len(roles), func(i int) error {
		options := options
		options.Role = roles[i]
		reports[i] = o.tryUntilKnown(ctx, url, options)
		return nil
	})
	for i, report := range reports {
		add(&v, roles[i], report)
	}
	if o.token.Type() == token.Bootstrap {
		o.lookUp(ctx, &v)
	}
	if o.oldToken != nil && v.CAHash != "" {
		options.Role = supervisor.Server
		v.OldToken = string(o.Try(ctx, url, *o.oldToken, options).Verdict)
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
		r.Steps = append(r.Steps, v1alpha1.VerificationStep{Name: step.Name, Status: string(step.Status)})
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

// tryUntilKnown tries the token, for some seconds if the server refuses one that is valid
// in the cluster. A server learns of a new token with a delay.
func (o *Options) tryUntilKnown(ctx context.Context, url supervisor.URL, options supervisor.Options) (report supervisor.Report) {
	backoff := wait.Backoff{Duration: time.Second, Steps: 5}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (done bool, _ error) {
		report = o.Try(ctx, url, o.token, options)
		return report.Verdict != supervisor.Refused || !o.isValid(ctx, report.CAHash), nil
	})
	return report
}
