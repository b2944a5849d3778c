package cmd

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// apiVersion is the version of the kinds that -o json and its like print.
const apiVersion = "k3s-token.io/v1alpha1"

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// BootstrapToken is a bootstrap token of a cluster. Its Token field is set by
// create only.
type BootstrapToken struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        ObjectName `json:"metadata"`

	ID          string       `json:"id"`
	Token       string       `json:"token,omitempty"`
	CAHash      string       `json:"caHash,omitempty"`
	Server      string       `json:"server,omitempty"`
	Expires     *metav1.Time `json:"expires,omitempty"`
	Groups      []string     `json:"groups,omitempty"`
	Usages      []string     `json:"usages,omitempty"`
	Description string       `json:"description,omitempty"`
	Status      string       `json:"status,omitempty"`
	Problem     string       `json:"problem,omitempty"`
}

// ObjectName says where the cluster keeps an object, and since when.
type ObjectName struct {
	Name      string       `json:"name"`
	Namespace string       `json:"namespace,omitempty"`
	Created   *metav1.Time `json:"creationTimestamp,omitempty"`
}

// BootstrapTokenList is several bootstrap tokens.
type BootstrapTokenList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []BootstrapToken `json:"items"`
}

// GeneratedToken is a token that generate has drawn; no cluster knows it.
type GeneratedToken struct {
	metav1.TypeMeta `json:",inline"`
	Type            string `json:"type"`
	ID              string `json:"id,omitempty"`
	User            string `json:"user,omitempty"`
	Token           string `json:"token"`
	CAHash          string `json:"caHash,omitempty"`
}

// GeneratedTokenList is several generated tokens.
type GeneratedTokenList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []GeneratedToken `json:"items"`
}

// TokenInfo is what can be told of a token without its secret.
type TokenInfo struct {
	metav1.TypeMeta `json:",inline"`
	WellFormed      bool   `json:"wellFormed"`
	Problem         string `json:"problem,omitempty"`
	Hint            string `json:"hint,omitempty"`
	Format          string `json:"format,omitempty"`
	Type            string `json:"type,omitempty"`
	ID              string `json:"id,omitempty"`
	User            string `json:"user,omitempty"`
	CAHash          string `json:"caHash,omitempty"`
	// CAMatches tells whether --ca-file has the token's CA hash.
	CAMatches *bool `json:"caMatches,omitempty"`
}

// Verification is what a server says to a token.
type Verification struct {
	metav1.TypeMeta `json:",inline"`
	// Server is the address that was given, Remote the one behind it.
	Server       string `json:"server"`
	Remote       string `json:"remote,omitempty"`
	Distribution string `json:"distribution,omitempty"`
	// CAHash is the server's; it is set once the server is trusted.
	CAHash string     `json:"caHash,omitempty"`
	Token  *TokenInfo `json:"token"`
	// Verdict is accepted, refused, forbidden, busy, not ready, unexpected, not
	// sent or unknown.
	Verdict      string `json:"verdict"`
	Reason       string `json:"reason"`
	Hint         string `json:"hint,omitempty"`
	JoinsAgents  bool   `json:"joinsAgents"`
	JoinsServers bool   `json:"joinsServers"`
	// OldToken is the verdict on the token from before a rotation.
	OldToken string             `json:"oldToken,omitempty"`
	Steps    []VerificationStep `json:"steps"`
	// BootstrapToken is what the cluster knows of the token.
	BootstrapToken *BootstrapToken `json:"bootstrapToken,omitempty"`
}

// VerificationStep is one of the five steps of TLS bootstrapping.
type VerificationStep struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// VerificationList is what several servers say.
type VerificationList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []Verification `json:"items"`
}

// TokenRotation is a rotation of the server token that a server has carried
// out, or may have.
type TokenRotation struct {
	metav1.TypeMeta `json:",inline"`
	// Server is the address of the server that was told.
	Server string `json:"server"`
	// Outcome is rotated or unknown, and Reason says why it is not known.
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	ErrorID string `json:"errorID,omitempty"`
	// Token is the new token, unless it was written to a file.
	Token  string `json:"token,omitempty"`
	CAHash string `json:"caHash"`
	// Restart is the servers that are known, in the order in which they are to
	// be restarted.
	Restart []string `json:"restart"`
}

// VersionInfo is what version prints.
type VersionInfo struct {
	metav1.TypeMeta `json:",inline"`
	Client          Build          `json:"clientVersion"`
	Server          *ServerVersion `json:"serverVersion,omitempty"`
}

// ServerVersion is the version of a server and the kind of Kubernetes it is.
type ServerVersion struct {
	GitVersion   string `json:"gitVersion"`
	Distribution string `json:"distribution"`
}

// newBootstrapToken returns the printed form of a token, without its secret.
func newBootstrapToken(t *bootstrap.Token, now time.Time) BootstrapToken {
	return BootstrapToken{
		TypeMeta:    typeMeta("BootstrapToken"),
		Metadata:    ObjectName{Name: bootstrapName(t), Namespace: bootstrap.Namespace, Created: optionalTime(t.Created)},
		ID:          t.ID,
		Expires:     optionalTime(t.Expires),
		Groups:      t.Groups,
		Usages:      t.Usages,
		Description: t.Description,
		Status:      string(t.Status(now)),
		Problem:     t.Problem,
	}
}

func bootstrapName(t *bootstrap.Token) string {
	if t.SecretName != "" {
		return t.SecretName
	}
	return bootstrap.SecretName(t.ID)
}

// newTokenList returns the list of the tokens.
func newTokenList(tokens []BootstrapToken) *BootstrapTokenList {
	return &BootstrapTokenList{TypeMeta: typeMeta("BootstrapTokenList"), Items: tokens}
}

func optionalTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	utc := metav1.NewTime(t.UTC())
	return &utc
}

func newTokenInfo(t token.Token) *TokenInfo {
	info := &TokenInfo{
		TypeMeta:   typeMeta("TokenInfo"),
		WellFormed: true,
		Format:     string(t.Format()),
		Type:       string(t.Type()),
		ID:         t.ID,
		User:       t.User,
		CAHash:     t.CAHash,
	}
	if reason, ok := token.LooksLikeBootstrap(t); ok {
		info.Hint = "K3s takes it as a password; as a bootstrap token it is malformed: " + reason
	}
	return info
}

// good tells whether the server accepts the token, and none from before.
func (v *Verification) good() bool {
	accepted := string(supervisor.Accepted)
	return v.Verdict == accepted && v.OldToken != accepted
}

// conclusion sums up, for somebody who has seen the steps.
func (v *Verification) conclusion() string {
	conclusion := v.Verdict
	if v.Verdict == string(supervisor.Accepted) {
		conclusion += ": " + v.Reason
	}
	if v.Hint != "" {
		conclusion += "; " + v.Hint
	}
	return conclusion
}

// detail sums up, for somebody who has seen the verdict alone.
func (v *Verification) detail() string {
	detail := v.Reason
	switch {
	case v.Verdict != verdictNotSent && v.Hint != "":
		detail = v.Hint
	case v.Hint != "":
		detail += "; " + v.Hint
	}
	return detail
}

const hashDiffers = "differs"

// caHashResult says what became of the comparison of the hashes.
func (v *Verification) caHashResult() string {
	for _, step := range v.Steps {
		switch {
		case step.Number != supervisor.StepCompare:
		case step.Status == string(supervisor.Passed):
			return "matches"
		case step.Status == string(supervisor.Failed) && v.Token.CAHash != "":
			return hashDiffers
		default:
			return "unverified"
		}
	}
	return "unknown"
}

// What follows makes the kinds objects of the Kubernetes printers, which copy
// nothing.

// DeepCopyObject implements runtime.Object.
func (t *BootstrapToken) DeepCopyObject() runtime.Object { c := *t; return &c }

// DeepCopyObject implements runtime.Object.
func (t *BootstrapTokenList) DeepCopyObject() runtime.Object { c := *t; return &c }

// DeepCopyObject implements runtime.Object.
func (t *GeneratedToken) DeepCopyObject() runtime.Object { c := *t; return &c }

// DeepCopyObject implements runtime.Object.
func (t *GeneratedTokenList) DeepCopyObject() runtime.Object { c := *t; return &c }

// DeepCopyObject implements runtime.Object.
func (t *TokenInfo) DeepCopyObject() runtime.Object { c := *t; return &c }

// DeepCopyObject implements runtime.Object.
func (v *Verification) DeepCopyObject() runtime.Object { c := *v; return &c }

// DeepCopyObject implements runtime.Object.
func (v *VerificationList) DeepCopyObject() runtime.Object { c := *v; return &c }

// DeepCopyObject implements runtime.Object.
func (t *TokenRotation) DeepCopyObject() runtime.Object { c := *t; return &c }

// DeepCopyObject implements runtime.Object.
func (t *VersionInfo) DeepCopyObject() runtime.Object { c := *t; return &c }
