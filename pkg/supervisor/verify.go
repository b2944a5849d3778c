package supervisor

import (
	"cmp"
	"context"
	"fmt"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Status is how a step ended.
type Status string

// The statuses of a step. No step follows a failed one.
const (
	Passed  Status = "passed"
	Skipped Status = "skipped"
	Failed  Status = "failed"
)

// Step is one of the five steps of K3s TLS bootstrapping.
type Step struct {
	Number int    // from 1
	Name   string // what the step does
	Status Status // how it ended
	Detail string // what was found, or why the step failed or was skipped
}

// Report is the result of Verify.
type Report struct {
	Remote       string // IP address and port; empty if there was no session
	Distribution Distribution
	CAHash       string  // of the server; empty if there was no session
	Steps        []Step  // those that were performed
	Finding      Finding // zero if the token was not sent
}

// add adds the next step, which failed if err is not nil.
func (r *Report) add(status Status, detail string, err error) error {
	names := [...]string{
		"download the CA bundle", "compute its hash", "compare it with the token's",
		"validate the server's certificate", "send the credentials",
	}
	step := Step{len(r.Steps) + 1, names[len(r.Steps)], status, detail}
	if err != nil {
		step.Status, step.Detail = Failed, err.Error()
		err = fmt.Errorf("step %d, %s: %w", step.Number, step.Name, err)
	}
	r.Steps = append(r.Steps, step)
	return err
}

// Verify performs the five steps of TLS bootstrapping against one server, as a
// node does that joins with the token. A CA hash in the token goes before that
// of the options. The error wraps a *NotAcceptedError if the server answered and
// did not accept the token.
func Verify(ctx context.Context, server URL, t token.Token, opts Options) (Report, error) {
	var report Report
	opts.CAHash = cmp.Or(t.CAHash, opts.CAHash)
	s, err := connect(ctx, server, opts, &report)
	if err != nil {
		return report, err
	}
	defer s.Close()
	report.Remote, report.Distribution, report.CAHash = s.Remote(), s.distribution, s.caHash
	report.Finding, err = s.Probe(ctx, t)
	if err == nil && report.Finding.Verdict() != Accepted {
		err = &NotAcceptedError{Finding: report.Finding, Type: t.Type()}
	}
	err = report.add(Passed, "accepted: "+report.Finding.GoodFor(), err)
	return report, err
}
