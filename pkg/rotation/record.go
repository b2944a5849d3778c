package rotation

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const (
	// RecordName is the name of the ConfigMap in kube-system that is the record.
	RecordName = "k3s-token-rotation"

	about = "The K3s server token is being rotated. This record holds no secret. Restart every server with the new token, " +
		"then run kubectl k3s-token verify --all-servers with --old-token-file: it removes the record."

	// started is the state until the outcome is written. It stays if the command is
	// killed before.
	started = "started"
)

// Record is the record of a rotation: a ConfigMap with its server, its time, and its state,
// "started" or a supervisor.Outcome. It is in the cluster from before the request until
// every server accepts the new token and refuses the old one.
type Record struct {
	client    corev1client.ConfigMapInterface
	configMap *corev1.ConfigMap
}

// newRecord returns a record that is not in the cluster yet.
func newRecord(client corev1client.ConfigMapInterface, server supervisor.URL) *Record {
	return &Record{client, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: RecordName},
		Data: map[string]string{
			"about": about, "state": started, "server": server.String(), "started": time.Now().UTC().Format(time.RFC3339),
		},
	}}
}

// FindRecord returns the record in a cluster, or nil if there is none. The client is one
// of kube-system.
func FindRecord(ctx context.Context, client corev1client.ConfigMapInterface) (*Record, error) {
	configMap, err := client.Get(ctx, RecordName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &Record{client, configMap}, nil
}

// String names the rotation in errors and warnings. Its parts come from the
// cluster, and may be any text.
func (r *Record) String() string {
	return fmt.Sprintf("the rotation through %s of %s", r.configMap.Data["server"], r.configMap.Data["started"])
}

// errRecordChanged is returned if the record has changed since it was read.
var errRecordChanged = hint.New("another rotation has begun or ended meanwhile", "wait for it, then try again")

// save creates the record, or updates one that was found or saved. It fails if the
// record in the cluster has changed since. So of two rotations at once only one begins.
// With metav1.DryRunAll nothing is written.
func (r *Record) save(ctx context.Context, dryRun ...string) error {
	var configMap *corev1.ConfigMap
	var err error
	if r.configMap.ResourceVersion == "" {
		configMap, err = r.client.Create(ctx, r.configMap, metav1.CreateOptions{DryRun: dryRun})
	} else {
		configMap, err = r.client.Update(ctx, r.configMap, metav1.UpdateOptions{DryRun: dryRun})
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return errRecordChanged
	}
	if err == nil {
		r.configMap = configMap
	}
	return err
}

// Remove deletes the record. It fails if the one in the cluster has changed since.
func (r *Record) Remove(ctx context.Context) error {
	return r.client.Delete(ctx, RecordName, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &r.configMap.UID, ResourceVersion: &r.configMap.ResourceVersion},
	})
}
