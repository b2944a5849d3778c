// Package v1alpha1 holds the kinds that -o json and its like print. They are
// for scripts to read; no API server serves them.
//
// +k8s:deepcopy-gen=package
package v1alpha1
