package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// RotationRecord is the ConfigMap in kube-system that holds the record of a
// rotation.
const RotationRecord = "k3s-token-rotation"

// The fields of the ConfigMap.
const (
	rotationAbout    = "about"
	rotationState    = "state"
	rotationServer   = "server"
	rotationCAHash   = "ca-hash"
	rotationStarted  = "started"
	rotationFinished = "finished"
	rotationBy       = "by"
	rotationMark     = "mark"
)

const aboutRotation = "The server token is being rotated. kubectl k3s-token rotate left this record; kubectl k3s-token verify --all-servers removes it once every server answers to the new token. It holds no secret."

// lookBound is how long it may take to find out what became of a write.
const lookBound = 5 * time.Second

// markSalt is how many random bytes a mark has.
const markSalt = 16

// RotationState is how far a rotation is.
type RotationState string

const (
	// RotationStarted is one whose request is about to be sent, or was sent by
	// somebody who did not come to say what became of it.
	RotationStarted RotationState = "started"
	// RotationDone is one that a server has carried out. The servers go on
	// with the old token until they are restarted.
	RotationDone RotationState = "rotated"
	// RotationUnknown is one that may have been carried out.
	RotationUnknown RotationState = "unknown"
)

// Rotation is the record of a rotation of the server token. It is there from
// before the request until every server has been restarted, because in that
// time nothing else shows the rotation: the servers answer to the old token,
// and a second rotation through another server would do damage. It holds
// nothing secret.
type Rotation struct {
	// State is how far it is.
	State RotationState
	// Server is the address of the server that it went through, and CAHash the
	// hash of its CA.
	Server, CAHash string
	// Started is when the record was made, and Finished when the outcome was
	// known; zero if it is not.
	Started, Finished time.Time
	// By is who did it, as the Kubernetes API knows them; empty if not known.
	By string
	// Mark tells the new token from the old one: see IsNew.
	Mark string

	uid     types.UID
	version string
}

// NewMark returns what lets Rotation.IsNew tell the new password from the old
// one: a random salt under which the first bit of a keyed hash is 1 for the
// new and 0 for the old. A hash would let whoever reads the record try
// passwords on it; this bit halves the list of a guesser, and no more.
func NewMark(random io.Reader, old, next token.Secret) (string, error) {
	if old == next {
		return "", errors.New("the new token is the current one")
	}
	salt := make([]byte, markSalt)
	for range 1000 { // four are enough, mostly
		if _, err := io.ReadFull(random, salt); err != nil {
			return "", fmt.Errorf("read random bytes: %w", err)
		}
		if markBit(salt, next) && !markBit(salt, old) {
			return hex.EncodeToString(salt), nil
		}
	}
	return "", errors.New("the source of randomness is broken: it draws the same again and again")
}

// IsNew tells the rotation's new password, for which it returns true, from the
// old one. For any other it returns one or the other. A record without a mark
// knows of no new password.
func (r *Rotation) IsNew(password token.Secret) bool {
	salt, err := hex.DecodeString(r.Mark)
	return err == nil && len(salt) == markSalt && markBit(salt, password)
}

func markBit(salt []byte, password token.Secret) bool {
	hash := hmac.New(sha256.New, salt)
	hash.Write([]byte(password.Reveal()))
	return hash.Sum(nil)[0]&0x80 != 0
}

// RotationConflictError says that somebody else has changed the record of a
// rotation in the meantime. It is no error of the API, so that nobody shows the
// API's words for it.
type RotationConflictError struct{}

func (*RotationConflictError) Error() string {
	return "somebody else rotates the server token at this moment, or has just changed the record of a rotation (ConfigMap kube-system/" + RotationRecord + "): wait for them, then try again"
}

// RotationStore keeps the record of a rotation in the cluster: at most one at
// a time. Whoever writes names the version that they have seen, so that of two
// rotations at once only one begins.
type RotationStore struct {
	client ConfigMaps
}

// NewRotationStore returns the store of a cluster.
func NewRotationStore(client ConfigMaps) *RotationStore {
	return &RotationStore{client: client}
}

// Get returns the record, or nil if there is none. Fields that cannot be read
// are zero.
func (s *RotationStore) Get(ctx context.Context) (*Rotation, error) {
	configMap, err := s.client.Get(ctx, RotationRecord, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return newRotation(configMap), nil
}

// Begin writes the record of a rotation, in the place of a previous one that
// Get has returned, or of none if that is nil. The error is a
// *RotationConflictError where the record is not the previous one any more.
func (s *RotationStore) Begin(ctx context.Context, r Rotation, previous *Rotation) (*Rotation, error) {
	return s.write(ctx, r, previous, false)
}

// TryBegin is Begin as a dry run: it finds out whether the record could be
// written.
func (s *RotationStore) TryBegin(ctx context.Context, r Rotation, previous *Rotation) error {
	_, err := s.write(ctx, r, previous, true)
	return err
}

// Finish says in the record how the rotation ended. It fails if the record is
// not the one that Begin has returned.
func (s *RotationStore) Finish(ctx context.Context, begun *Rotation, state RotationState, now time.Time) (*Rotation, error) {
	finished := *begun
	finished.State, finished.Finished = state, now
	return s.write(ctx, finished, begun, false)
}

// Remove takes the record away, if it is still the one that was seen.
func (s *RotationStore) Remove(ctx context.Context, seen *Rotation) error {
	err := s.client.Delete(ctx, RotationRecord, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &seen.uid, ResourceVersion: &seen.version},
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return &RotationConflictError{}
	}
	return err
}

func (s *RotationStore) write(ctx context.Context, r Rotation, previous *Rotation, dryRun bool) (*Rotation, error) {
	var tries []string
	if dryRun {
		tries = []string{metav1.DryRunAll}
	}
	configMap := r.configMap()
	var err error
	if previous == nil {
		configMap, err = s.client.Create(ctx, configMap, metav1.CreateOptions{DryRun: tries})
	} else {
		configMap.UID, configMap.ResourceVersion = previous.uid, previous.version
		configMap, err = s.client.Update(ctx, configMap, metav1.UpdateOptions{DryRun: tries})
	}
	if err != nil && !dryRun {
		// The answer may be lost, or that to a request which the client has
		// repeated: the record itself tells whether it is there.
		if found := s.look(ctx); found != nil && found.Mark == r.Mark && found.State == r.State {
			return found, nil
		}
	}
	if apierrors.IsAlreadyExists(err) || previous != nil && (apierrors.IsConflict(err) || apierrors.IsNotFound(err)) {
		return nil, &RotationConflictError{}
	}
	if err != nil {
		return nil, err
	}
	return newRotation(configMap), nil
}

// look is Get for when something has gone wrong, and takes its own time.
func (s *RotationStore) look(ctx context.Context) *Rotation {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookBound)
	defer cancel()
	found, err := s.Get(ctx)
	if err != nil {
		return nil
	}
	return found
}

func (r *Rotation) configMap() *corev1.ConfigMap {
	data := map[string]string{rotationAbout: aboutRotation}
	for key, value := range map[string]string{
		rotationState:    string(r.State),
		rotationServer:   r.Server,
		rotationCAHash:   r.CAHash,
		rotationStarted:  formatTime(r.Started),
		rotationFinished: formatTime(r.Finished),
		rotationBy:       r.By,
		rotationMark:     r.Mark,
	} {
		if value != "" {
			data[key] = value
		}
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RotationRecord, Namespace: metav1.NamespaceSystem}, Data: data}
}

func newRotation(configMap *corev1.ConfigMap) *Rotation {
	data := configMap.Data
	return &Rotation{
		State:    RotationState(data[rotationState]),
		Server:   data[rotationServer],
		CAHash:   data[rotationCAHash],
		Started:  parseTime(data[rotationStarted]),
		Finished: parseTime(data[rotationFinished]),
		By:       data[rotationBy],
		Mark:     data[rotationMark],
		uid:      configMap.UID,
		version:  configMap.ResourceVersion,
	}
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
