package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// isContextCA reports whether a CA hash is that of the context's cluster.
func (o *Options) isContextCA(ctx context.Context, caHash string) bool {
	return caHash != "" && caHash == o.servers.ContextCA(ctx).Hash
}

// stored returns the bootstrap token as the context's cluster has it.
func (o *Options) stored(ctx context.Context) (*bootstrap.Token, error) {
	ref, err := bootstrap.ParseRef(o.token.ID)
	if err != nil {
		return nil, err
	}
	return bootstrap.NewStore(o.servers.Cluster.Client.Secrets(bootstrap.Namespace)).Get(ctx, ref)
}

// isValid reports whether the CA is that of the context's cluster, and the token is
// valid there.
func (o *Options) isValid(ctx context.Context, caHash string) bool {
	if o.token.ID == "" || !o.isContextCA(ctx, caHash) {
		return false
	}
	stored, err := o.stored(ctx)
	if err != nil || stored.Secret != o.token.Secret {
		return false
	}
	status, _ := stored.Status(time.Now())
	return status == bootstrap.Active
}

// lookUp adds the stored token and explains a refusal, if the bootstrap token is of the
// context's cluster.
func (o *Options) lookUp(ctx context.Context, v *v1alpha1.Verification) {
	if !o.isContextCA(ctx, cmp.Or(v.CAHash, o.token.CAHash)) {
		return
	}
	stored, err := o.stored(ctx)
	if err == nil && (stored.Secret == o.token.Secret || stored.Problem != "") {
		shown := v1alpha1.NewBootstrapToken(stored, time.Now())
		v.BootstrapToken = &shown
	}
	for i := range v.Roles {
		if r := &v.Roles[i]; r.Verdict == string(supervisor.Refused) {
			explainRefusal(r, v.BootstrapToken, err)
		}
	}
}

// explainRefusal says why a server refuses a bootstrap token, which is nil if the
// cluster has another secret for its id.
func explainRefusal(r *v1alpha1.VerificationRole, t *v1alpha1.BootstrapToken, err error) {
	switch {
	case apierrors.IsNotFound(err):
		r.Hint = "the cluster has no token with this id: it has expired, was deleted, or is another cluster's"
	case err != nil:
		r.Hint = fmt.Sprintf("the cluster does not tell why: %v", err)
	case t == nil:
		r.Hint = "the cluster has a token with this id and another secret: it is mistyped, or another cluster's"
	case t.Status != string(bootstrap.Active):
		r.Hint = strings.TrimSuffix("create a new token, since this one is "+strings.ToLower(t.Status)+": "+t.Problem, ": ")
	default:
		r.Hint = "the cluster has the token, and it is valid: try again in a moment"
	}
}

// finishRotation removes the record of a rotation, if there is one, once every server
// accepts the new token and refuses the old one.
func (o *Options) finishRotation(ctx context.Context, items []v1alpha1.Verification) {
	t := o.token.Type()
	if o.servers.Cluster == nil || t == token.Bootstrap || t == token.Agent {
		return
	}
	records := rotation.NewRecords(o.servers.Cluster.Client.ConfigMaps(bootstrap.Namespace))
	record, err := records.Get(ctx)
	switch {
	case err != nil || record == nil:
	case o.oldToken == nil:
		o.Warnf("%s is not known to be finished: add --old-token-file", record)
	case slices.ContainsFunc(items, notRotated):
		o.Warnf("%s is not finished: restart each server that does not accept the new token alone", record)
	default:
		if err = records.Remove(ctx, record); err == nil {
			o.Notef("%s is finished; its record was removed (ConfigMap %s)", record, rotation.RecordName)
		}
	}
	if err != nil {
		o.Warnf("ConfigMap %s, the record of a rotation: %v", rotation.RecordName, err)
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
