package rotation

import (
	"context"
	"fmt"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// Rotate writes the record and sends the new token to the server. If ctx ends
// before the request is sent, nothing is rotated. If it ends after that, Rotate
// waits a few seconds for the answer.
//
// Unless the outcome is supervisor.NotRotated, the server may have the new token,
// and the caller gives it to the user. After any outcome, the caller calls Finish.
func (p *Plan) Rotate(ctx context.Context) (supervisor.Outcome, error) {
	writing, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	var err error
	if p.records != nil {
		record := p.newRecord()
		if err = p.records.Save(writing, record); err == nil {
			p.record = record
		}
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return supervisor.NotRotated, fmt.Errorf("ConfigMap kube-system/%s: %w", RecordName, err)
	}
	return p.session.Rotate(writing, p.options.Current, p.Token.Secret)
}

// Finish writes the outcome into the record, or takes the record back if the
// token was not rotated. It goes on for a few seconds if ctx ends.
func (p *Plan) Finish(ctx context.Context, outcome supervisor.Outcome) error {
	if p.record == nil {
		return nil
	}
	writing, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	r := *p.record
	var err error
	switch {
	case outcome == supervisor.NotRotated && p.previous == nil:
		err = p.records.Remove(writing, &r)
	case outcome == supervisor.NotRotated:
		r = *p.previous
		r.meta = p.record.meta
		err = p.records.Save(writing, &r)
	default:
		r.State = string(outcome)
		err = p.records.Save(writing, &r)
	}
	if err != nil {
		return fmt.Errorf("ConfigMap kube-system/%s does not tell the outcome: %w", RecordName, err)
	}
	return nil
}
