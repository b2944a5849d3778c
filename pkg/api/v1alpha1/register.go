package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// NewScheme returns a scheme that knows the kinds, for printers to set their
// apiVersion and kind.
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	version := schema.GroupVersion{Group: "k3s-token.io", Version: "v1alpha1"}
	scheme.AddKnownTypes(version,
		&BootstrapToken{}, &BootstrapTokenList{},
		&GeneratedToken{}, &GeneratedTokenList{},
		&TokenInfo{},
		&Verification{}, &VerificationList{},
		&TokenRotation{},
		&VersionInfo{},
	)
	metav1.AddToGroupVersion(scheme, version)
	return scheme
}
