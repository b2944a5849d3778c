package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// verify tries the tokens on one server. It goes on for some seconds if the server refuses
// a token that is valid in the cluster: a server learns of a new one with a delay.
func (o *Options) verify(ctx context.Context, url supervisor.URL) (v v1alpha1.Verification) {
	options := o.servers.Options(url, o.token)
	backoff := wait.Backoff{Duration: time.Second, Steps: 5}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (done bool, _ error) {
		v = o.try(ctx, url, options)
		isValid := v.BootstrapToken != nil && v.BootstrapToken.Status == string(bootstrap.Active)
		return v.Verdict != string(supervisor.Refused) || !isValid, nil
	})
	if o.oldToken != nil && v.CAHash != "" {
		options.Role = supervisor.Server
		v.OldToken = string(o.Try(ctx, url, *o.oldToken, options).Verdict)
	}
	return v
}

// try tries the token once, in each role.
func (o *Options) try(ctx context.Context, url supervisor.URL, options supervisor.Options) v1alpha1.Verification {
	v := v1alpha1.Verification{Server: url.String(), Token: v1alpha1.NewTokenInfo(o.token)}
	roles := o.roles()
	reports := make([]supervisor.Report, len(roles))
	cmdutil.ForEach(ctx, len(roles), func(i int) error {
		options := options
		options.Role = roles[i]
		reports[i] = o.Try(ctx, url, o.token, options)
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

// finishRotation removes the record of a rotation, if there is one, once every server
// accepts the new token and refuses the old one.
func (o *Options) finishRotation(ctx context.Context, items []v1alpha1.Verification) {
	if t := o.token.Type(); t == token.Bootstrap || t == token.Agent {
		return
	}
	record, err := rotation.FindRecord(ctx, o.servers.Cluster.Client.ConfigMaps(bootstrap.Namespace))
	switch {
	case err != nil || record == nil:
	case o.oldToken == nil:
		o.Warnf("%s is not known to be finished: add --old-token-file", record)
	case slices.ContainsFunc(items, notRotated):
		o.Warnf("%s is not finished: restart each server that does not accept the new token alone", record)
	default:
		if err = record.Remove(ctx); err == nil {
			o.Notef("%s is finished; its record was removed (ConfigMap %s)", record, rotation.RecordName)
		}
	}
	if err != nil {
		o.Warnf("the record of a rotation: %v", err)
	}
}

// notRotated reports whether a server does not accept the new server token, or may
// accept the old one.
func notRotated(v v1alpha1.Verification) bool {
	accepts := slices.ContainsFunc(v.Roles, func(r v1alpha1.VerificationRole) bool {
		return r.Role == string(supervisor.Server) && r.Verdict == string(supervisor.Accepted)
	})
	return !accepts || v.OldToken != string(supervisor.Refused)
}
