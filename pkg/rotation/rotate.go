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
func (r *Rotation) Rotate(ctx context.Context) (supervisor.Outcome, error) {
	writing, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	var err error
	if r.records != nil {
		record := r.newRecord()
		if err = r.records.Save(writing, record); err == nil {
			r.record = record
		}
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return supervisor.NotRotated, fmt.Errorf("ConfigMap kube-system/%s: %w", RecordName, err)
	}
	return r.session.Rotate(writing, r.Current, r.New.Secret)
}

// Finish writes the outcome into the record, or takes the record back if the
// token was not rotated. It goes on for a few seconds if ctx ends.
func (r *Rotation) Finish(ctx context.Context, outcome supervisor.Outcome) error {
	if r.record == nil {
		return nil
	}
	writing, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	record := *r.record
	var err error
	switch {
	case outcome == supervisor.NotRotated && r.previous == nil:
		err = r.records.Remove(writing, &record)
	case outcome == supervisor.NotRotated:
		record = *r.previous
		record.meta = r.record.meta
		err = r.records.Save(writing, &record)
	default:
		record.State = string(outcome)
		err = r.records.Save(writing, &record)
	}
	if err != nil {
		return fmt.Errorf("ConfigMap kube-system/%s does not tell the outcome: %w", RecordName, err)
	}
	return nil
}
