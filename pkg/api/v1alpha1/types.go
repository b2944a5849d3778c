package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BootstrapToken is a bootstrap token of a cluster. Its metadata are those of
// the Secret that holds it.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type BootstrapToken struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// ID is the public part of the token.
	ID string `json:"id"`
	// Token is the whole token, its secret included. Only create sets it.
	Token string `json:"token,omitempty"`
	// CAHash is the hash of the cluster's CA. Only create sets it.
	CAHash string `json:"caHash,omitempty"`
	// Server is the URL that a joining node dials. Only create sets it.
	Server string `json:"server,omitempty"`
	// Expires is when the token ends. It is absent if the token never expires.
	Expires *metav1.Time `json:"expires,omitempty"`
	// Groups are the extra groups that the token authenticates as.
	Groups []string `json:"groups,omitempty"`
	// Usages are "authentication", which joining needs, and "signing".
	Usages []string `json:"usages,omitempty"`
	// Description is free text.
	Description string `json:"description,omitempty"`
	// Status is "Active", "Expired", "Unusable" or "Invalid".
	Status string `json:"status,omitempty"`
	// Problem is why the token is Unusable or Invalid.
	Problem string `json:"problem,omitempty"`
}

// BootstrapTokenList is a list of bootstrap tokens.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type BootstrapTokenList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []BootstrapToken `json:"items"`
}

// GeneratedToken is a token that generate made. No cluster knows it.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type GeneratedToken struct {
	metav1.TypeMeta `json:",inline"`

	// Type is "bootstrap" or "server".
	Type string `json:"type"`
	// ID is the public part of a bootstrap token.
	ID string `json:"id,omitempty"`
	// Token is the whole token, its secret included.
	Token string `json:"token"`
	// CAHash is the hash in the token, if it has one.
	CAHash string `json:"caHash,omitempty"`
}

// GeneratedTokenList is a list of generated tokens.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type GeneratedTokenList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []GeneratedToken `json:"items"`
}

// TokenInfo describes a token without its secret.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type TokenInfo struct {
	metav1.TypeMeta `json:",inline"`

	// WellFormed tells whether K3s can parse the token.
	WellFormed bool `json:"wellFormed"`
	// Problem is why K3s cannot parse the token.
	Problem string `json:"problem,omitempty"`
	// Hint is advice about a token that is malformed or probably mistyped.
	Hint string `json:"hint,omitempty"`
	// Format is "secure" or "short".
	Format string `json:"format,omitempty"`
	// Type is "bootstrap", "server", "agent" or "password".
	Type string `json:"type,omitempty"`
	// ID is the public part of a bootstrap token.
	ID string `json:"id,omitempty"`
	// CAHash is the hash in a token in secure format.
	CAHash string `json:"caHash,omitempty"`
	// CAMatches tells whether the CA of --ca-file has this hash.
	CAMatches *bool `json:"caMatches,omitempty"`
}

// Verification is the answer of one server to a token.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Verification struct {
	metav1.TypeMeta `json:",inline"`

	// Server is the URL of the server.
	Server string `json:"server"`
	// Distribution is "k3s" or "rke2".
	Distribution string `json:"distribution,omitempty"`
	// CAHash is the hash of the server's CA, once the server is trusted.
	CAHash string `json:"caHash,omitempty"`
	// Token describes the token.
	Token *TokenInfo `json:"token"`
	// Verdict is "accepted" if one of the roles has that, else the verdict of the first.
	Verdict string `json:"verdict"`
	// JoinsAgents tells whether an agent can join with the token.
	JoinsAgents bool `json:"joinsAgents"`
	// JoinsServers tells whether a server can join with the token.
	JoinsServers bool `json:"joinsServers"`
	// OldToken is the verdict on the token from before a rotation.
	OldToken string `json:"oldToken,omitempty"`
	// Roles are the results for the roles that were tried.
	Roles []VerificationRole `json:"roles"`
	// BootstrapToken is the token as the cluster holds it, without its secret.
	BootstrapToken *BootstrapToken `json:"bootstrapToken,omitempty"`
}

// VerificationRole is the result for a node that joins in one role.
type VerificationRole struct {
	// Role is "agent" or "server".
	Role string `json:"role"`
	// Joins tells whether a node joins. It is false if the token was not sent.
	Joins bool `json:"joins"`
	// Verdict is "accepted", "refused", "forbidden", "busy", "unexpected", "no
	// answer", "unproved" or "not sent". If it is "unproved", the server did not
	// prove to be the token's, and a node would send the token.
	Verdict string `json:"verdict"`
	// Reason is why a node does not join.
	Reason string `json:"reason,omitempty"`
	// Hint is advice about the reason.
	Hint string `json:"hint,omitempty"`
	// HostTrusts tells whether this machine's CAs vouch for the server. A node with
	// the same CAs does not look at the CA hash.
	HostTrusts bool `json:"hostTrusts,omitempty"`
	// Steps are the steps of TLS bootstrapping that were taken.
	Steps []VerificationStep `json:"steps"`
}

// VerificationStep is one of the five steps of TLS bootstrapping.
type VerificationStep struct {
	// Name is such as "download the CA bundle".
	Name string `json:"name"`
	// Status is "passed", "skipped" or "failed".
	Status string `json:"status"`
}

// VerificationList is the answers of several servers to a token.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type VerificationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Verification `json:"items"`
}

// TokenRotation is a rotation of the server token.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type TokenRotation struct {
	metav1.TypeMeta `json:",inline"`

	// Server is the URL of the server that carried out the rotation.
	Server string `json:"server"`
	// Outcome is "rotated" or "unknown".
	Outcome string `json:"outcome"`
	// Reason is why the outcome is unknown.
	Reason string `json:"reason,omitempty"`
	// Token is the new server token, unless it was written to a file.
	Token string `json:"token,omitempty"`
	// CAHash is the hash of the cluster's CA.
	CAHash string `json:"caHash"`
	// Restart are the known servers, in the order to restart them.
	Restart []string `json:"restart"`
}

// VersionInfo is the version of the plugin and of the context's server.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type VersionInfo struct {
	metav1.TypeMeta `json:",inline"`

	Client ClientVersion  `json:"clientVersion"`
	Server *ServerVersion `json:"serverVersion,omitempty"`
}

// ClientVersion is the version of the plugin.
type ClientVersion struct {
	// Version is the release, such as v0.1.0.
	Version string `json:"version"`
	// Commit is the Git commit that was built.
	Commit string `json:"commit,omitempty"`
	// Date is when that commit was made, in RFC 3339.
	Date string `json:"date,omitempty"`
}

// ServerVersion is the version of a Kubernetes API server.
type ServerVersion struct {
	// GitVersion is the release, such as v1.31.1+k3s1.
	GitVersion string `json:"gitVersion"`
	// Distribution is "k3s", "rke2" or "other".
	Distribution string `json:"distribution"`
}
