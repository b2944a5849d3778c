package rotation

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
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

// Record is the record of a rotation. It is in the cluster from before the
// request until every server accepts the new token and refuses the old one.
type Record struct {
	// State is "started", or a supervisor.Outcome.
	State string
	// Server is the URL of the server that gets the new token.
	Server string
	// Started is the time of the record, in RFC 3339.
	Started string

	meta metav1.ObjectMeta // of the ConfigMap in the cluster; zero if there is none yet
}

// String names the rotation in errors and warnings. Its parts come from the
// cluster, and may be any text.
func (r *Record) String() string {
	return fmt.Sprintf("the rotation through %s of %s", r.Server, r.Started)
}

// Records keeps the record of a rotation in a cluster, at most one at a time.
type Records struct {
	client corev1client.ConfigMapInterface
}

// NewRecords returns the records of a cluster for a client of kube-system.
func NewRecords(client corev1client.ConfigMapInterface) *Records { return &Records{client} }

// Get returns the record, or nil if there is none.
func (s *Records) Get(ctx context.Context) (*Record, error) {
	configMap, err := s.client.Get(ctx, RecordName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	data := configMap.Data
	return &Record{data["state"], data["server"], data["started"], configMap.ObjectMeta}, nil
}

// errRecordChanged is returned if the record has changed since it was read.
var errRecordChanged = hint.New("another rotation has begun or ended meanwhile", "wait for it, then try again")

// Save creates the record, or updates one that Get or Save has set. It fails if
// the record in the cluster has changed since. So of two rotations at once only one
// begins. With metav1.DryRunAll nothing is written.
func (s *Records) Save(ctx context.Context, r *Record, dryRun ...string) error {
	configMap := &corev1.ConfigMap{ObjectMeta: r.meta, Data: map[string]string{
		"about": about, "state": r.State, "server": r.Server, "started": r.Started,
	}}
	configMap.Name = RecordName
	var err error
	if r.meta.Name == "" {
		configMap, err = s.client.Create(ctx, configMap, metav1.CreateOptions{DryRun: dryRun})
	} else {
		configMap, err = s.client.Update(ctx, configMap, metav1.UpdateOptions{DryRun: dryRun})
	}
	switch {
	case apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err):
		return errRecordChanged
	case err != nil:
		return err
	}
	r.meta = configMap.ObjectMeta
	return nil
}

// Remove deletes the record. It fails if the one in the cluster has changed since.
func (s *Records) Remove(ctx context.Context, r *Record) error {
	return s.client.Delete(ctx, RecordName, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &r.meta.UID, ResourceVersion: &r.meta.ResourceVersion},
	})
}
