package cluster_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

func TestDistribution(t *testing.T) {
	for version, want := range map[string]cluster.Distribution{
		"v1.31.1+k3s1":        cluster.K3s,
		"v1.31.1-rc1+k3s1":    cluster.K3s,
		"v1.31.1+k3s-abcdef":  cluster.K3s,
		"v1.31.1+rke2r1":      cluster.RKE2,
		"v1.31.1-rc2+rke2r1":  cluster.RKE2,
		"v1.31.1":             cluster.Other,
		"v1.31.1-k3s1":        cluster.Other,
		"v1.31.1+vmware.1":    cluster.Other,
		"v1.31.1-gke.1+other": cluster.Other,
		"k3s":                 cluster.Other,
		"+":                   cluster.Other,
		"":                    cluster.Other,
	} {
		if got := (cluster.Version{GitVersion: version}).Distribution(); got != want {
			t.Errorf("%q is %s, want %s", version, got, want)
		}
	}
}

func TestWhatDistributionsDifferIn(t *testing.T) {
	for distribution, want := range map[cluster.Distribution][2]string{
		cluster.K3s:   {"system:bootstrappers:k3s:default-node-token", "6443"},
		cluster.RKE2:  {"system:bootstrappers:rke2:default-node-token", "9345"},
		cluster.Other: {"system:bootstrappers:k3s:default-node-token", "6443"},
	} {
		if got := [2]string{distribution.DefaultGroup(), distribution.SupervisorPort()}; got != want {
			t.Errorf("%s: %v, want %v", distribution, got, want)
		}
	}
}

func TestFetchVersionIsOneRequestForJSON(t *testing.T) {
	api := apitest.New(t)
	api.SetVersion("v1.31.1+rke2r1")
	got, err := cluster.FetchVersion(t.Context(), api.Client(t))
	if err != nil || got.GitVersion != "v1.31.1+rke2r1" {
		t.Errorf("version %v (%v)", got, err)
	}
	requests := api.Requests()
	if len(requests) != 1 || requests[0].Method != http.MethodGet || requests[0].Path != "/version" || requests[0].Header.Get("Accept") != "application/json" {
		t.Errorf("requests %v", requests)
	}
}

func TestFetchVersionFails(t *testing.T) {
	reply := func(body string) apitest.Hook {
		return func(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for name, test := range map[string]struct {
		hook apitest.Hook
		want func(error) bool
	}{
		"forbidden":      {fail(apierrors.NewForbidden(configMaps, "", errors.New("no"))), apierrors.IsForbidden},
		"a page of HTML": {reply("<html>"), func(err error) bool { return strings.Contains(err.Error(), "is it a Kubernetes API server") }},
		"nothing":        {reply(""), func(err error) bool { return strings.Contains(err.Error(), "is it a Kubernetes API server") }},
		"JSON of a list": {reply("[]"), func(err error) bool { return strings.Contains(err.Error(), "is it a Kubernetes API server") }},
		"other JSON":     {reply("{}"), func(err error) bool { return strings.Contains(err.Error(), "is it a Kubernetes API server") }},
	} {
		api := apitest.New(t)
		api.Handle(test.hook)
		got, err := cluster.FetchVersion(t.Context(), api.Client(t))
		if err == nil || !test.want(err) || got.GitVersion != "" {
			t.Errorf("%s: version %v, error %v", name, got, err)
		}
	}
}
