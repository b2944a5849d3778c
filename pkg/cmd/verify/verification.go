package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// The verdicts that are not the server's.
const (
	notSent = "not sent" // a step before failed
	unknown = "unknown"  // the answer was lost
)

// verify tries the token on one server and returns what is known of the answer.
func (o *Options) verify(ctx context.Context, url supervisor.URL, options supervisor.Options, c contextCluster) v1alpha1.Verification {
	report, err := o.tryUntilKnown(ctx, url, options, c)
	v := v1alpha1.Verification{
		Server:       url.String(),
		Remote:       report.Remote,
		Distribution: string(report.Distribution),
		CAHash:       report.CAHash,
		Token:        v1alpha1.NewTokenInfo(o.token),
		Verdict:      verdict(report, err),
		Reason:       report.Finding.GoodFor(),
		JoinsAgents:  report.Finding.JoinsAgents(),
		JoinsServers: report.Finding.JoinsServers(),
	}
	for _, step := range report.Steps {
		v.Steps = append(v.Steps, v1alpha1.VerificationStep{
			Number: step.Number, Name: step.Name, Status: string(step.Status), Detail: step.Detail,
		})
	}
	if err != nil {
		v.Reason = strings.TrimPrefix(err.Error(), "error: ")
		var advice interface{ Hint() string }
		if errors.As(err, &advice) {
			v.Hint = advice.Hint()
		}
	}
	switch {
	case v.Verdict == notSent:
		v.Hint = cmp.Or(c.explainMismatch(ctx, err), v.Hint)
	case o.token.Type() == token.Bootstrap:
		o.lookUp(ctx, &v, c)
	case o.oldToken != nil:
		o.tryOldToken(ctx, url, options, &v)
	}
	return v
}

// tryUntilKnown tries the token, and again for some seconds if the server refuses
// one that the cluster has and that is valid: a server learns of a new token a
// moment after its creation.
func (o *Options) tryUntilKnown(ctx context.Context, url supervisor.URL, options supervisor.Options, c contextCluster) (report supervisor.Report, err error) {
	backoff := wait.Backoff{Duration: time.Second, Steps: 5}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (done bool, _ error) {
		report, err = o.Try(ctx, url, o.token, options)
		return !o.isNew(ctx, report, c), nil
	})
	return report, err
}

// isNew tells whether the server refuses a token that the cluster has and that is
// valid.
func (o *Options) isNew(ctx context.Context, report supervisor.Report, c contextCluster) bool {
	if o.token.Type() != token.Bootstrap || report.Finding.Verdict() != supervisor.Refused {
		return false
	}
	if ca, err := c.ca(ctx); err != nil || ca.Hash != report.CAHash {
		return false
	}
	stored, err := c.stored(ctx, o.token)
	if err != nil {
		return false
	}
	status, _ := stored.Status(time.Now())
	return status == bootstrap.Active
}

func verdict(report supervisor.Report, err error) string {
	var notAccepted *supervisor.NotAcceptedError
	switch {
	case err == nil, errors.As(err, &notAccepted):
		return string(report.Finding.Verdict())
	case report.CAHash == "":
		return notSent
	}
	return unknown
}

// tryOldToken tries the token from before a rotation.
func (o *Options) tryOldToken(ctx context.Context, url supervisor.URL, options supervisor.Options, v *v1alpha1.Verification) {
	report, err := o.Try(ctx, url, *o.oldToken, options)
	v.OldToken = verdict(report, err)
	switch {
	case v.OldToken == string(supervisor.Accepted):
		v.Hint = "it still accepts the old token: restart it with the new one"
	case v.OldToken == string(supervisor.Refused) && v.Verdict == string(supervisor.Refused):
		v.Hint = "it accepts neither token: compare server/token in its data directory"
	}
}

// lookUp adds what the cluster knows of a bootstrap token, if the server is its own.
func (o *Options) lookUp(ctx context.Context, v *v1alpha1.Verification, c contextCluster) {
	if ca, err := c.ca(ctx); err != nil || ca.Hash != v.CAHash {
		return
	}
	accepted := v.Verdict == string(supervisor.Accepted)
	stored, err := c.stored(ctx, o.token)
	switch {
	case err == nil:
		shown := v1alpha1.NewBootstrapToken(stored, time.Now())
		v.BootstrapToken = &shown
		if !accepted {
			v.Hint = whyRefused(&shown)
		}
	case accepted:
	case apierrors.IsNotFound(err):
		v.Hint = "the cluster has no token with this id: it has expired, was deleted, or is another cluster's"
	case errors.Is(err, bootstrap.ErrOtherSecret):
		v.Hint = "the cluster has a token with this id and another secret: it is mistyped, or another cluster's"
	default:
		v.Hint = fmt.Sprintf("the cluster does not tell why: %v", err)
	}
}

// whyRefused returns what is wrong with a token that the cluster has.
func whyRefused(t *v1alpha1.BootstrapToken) string {
	switch bootstrap.Status(t.Status) {
	case bootstrap.Invalid:
		return fmt.Sprintf("secret/%s is malformed: %s", t.Name, t.Problem)
	case bootstrap.Expired:
		return fmt.Sprintf("the token expired %s ago: create a new one", duration.HumanDuration(time.Since(t.Expires.Time)))
	case bootstrap.Unusable:
		return "the token lacks the usage authentication: create one that has it"
	}
	return "the cluster has the token, and it is valid: try again in a moment"
}

// printText prints the steps for one server, and a table for several.
func printText(obj runtime.Object, w io.Writer) error {
	v, ok := obj.(*v1alpha1.Verification)
	if !ok {
		return cmdutil.PrintTable(obj, w)
	}
	lines := []string{"Server: " + v.Server, "Token:  " + describe(v.Token), ""}
	for _, step := range v.Steps {
		status := strings.Replace(step.Status, string(supervisor.Passed), "ok", 1)
		lines = append(lines, fmt.Sprintf("%d  %-33s  %-7s  %s", step.Number, step.Name, status, step.Detail))
	}
	if t := v.BootstrapToken; t != nil {
		_, expires := cmdutil.Lifetime(t, time.Now())
		lines = append(lines, "",
			"Description: "+cmp.Or(t.Description, "<none>"),
			"Expires:     "+expires,
			"Groups:      "+cmp.Or(strings.Join(t.Groups, ","), "<none>"),
			"Usages:      "+cmp.Or(strings.Join(t.Usages, ","), "<none>"))
	}
	if v.OldToken != "" {
		lines = append(lines, "", "Old token: "+v.OldToken)
	}
	conclusion := "Verdict: " + v.Verdict
	if v.Verdict == string(supervisor.Accepted) {
		conclusion += ": " + v.Reason
	}
	if v.Hint != "" {
		conclusion += "; " + v.Hint
	}
	lines = append(lines, "", conclusion, "")
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

func describe(t *v1alpha1.TokenInfo) string {
	described := cmdutil.TokenKind(token.Type(t.Type))
	if t.ID != "" {
		described += " " + t.ID
	}
	if t.CAHash == "" {
		described += ", without a CA hash"
	}
	return described
}
