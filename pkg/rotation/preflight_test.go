package rotation_test

import (
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestPreflightAsksEachServer(t *testing.T) {
	t.Parallel()
	const first, second = "https://10.0.0.1:6443: ", "https://10.0.0.2:6443: "
	refusal := hint.New("the server does not accept the token: refused", "use another")
	for says, change := range map[string]func(s *site){
		first + "the server does not accept the token: refused":  func(s *site) { s.servers[0].refusal = refusal },
		second + "the server does not accept the token: refused": func(s *site) { s.servers[1].refusal = refusal },
		second + "the token is for another CA":                   func(s *site) { s.servers[1].hash = otherHash },
		"the new token has the CA hash of another cluster":       func(s *site) { s.New.CAHash = otherHash },
		"the token is for another CA":                            func(s *site) { s.Current.CAHash = otherHash },
	} {
		s := newSite(t, 2)
		s.Force = true // no help
		change(s)
		err := s.Preflight(t.Context())
		wantError(t, err, says, "")
	}
}

func TestTheRecordOfAnEarlierRotationStopsTheNext(t *testing.T) {
	t.Parallel()
	const same, other = "https://10.0.0.1:6443", "https://10.9.9.9:6443"
	for name, test := range map[string]struct {
		state, server string
		passes        bool
	}{
		"rotated through another server":  {"rotated", other, false},
		"unknown through the same server": {"unknown", same, true},
		"started through the same server": {"started", same, false},
		"a malformed record":              {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1)
			s.leave(t, test.state, test.server)
			text := "the rotation through " + test.server + " of " + longAgo
			if !test.passes {
				err := s.Preflight(t.Context())
				wantError(t, err, text+" is not finished", "--force")
				s.Force = true
			}
			if warnings := s.preflight(t).Warnings; len(warnings) != 1 || !strings.Contains(warnings[0], text) {
				t.Errorf("got warnings %q", warnings)
			}
		})
	}
}

func TestPreflightRefusesALoadBalancer(t *testing.T) {
	t.Parallel()
	two, elsewhere := []string{"10.0.0.1", "10.0.0.2"}, []string{"10.1.0.1", "10.1.0.2"}
	for name, test := range map[string]struct {
		nodes           []string
		remote          string
		proxied, passes bool
		warning         string // or the error
	}{
		"a node":                   {two, "10.0.0.1:6443", false, true, "1 of the cluster's 2 servers are not checked"},
		"a tunnel of this machine": {elsewhere, "127.0.0.1:6443", false, true, "are not checked"},
		"a load balancer":          {elsewhere, "10.0.0.1:6443", false, false, "is none of the cluster's 2 servers"},
		"a proxy on this machine":  {elsewhere, "127.0.0.1:3128", true, false, "is none of the cluster's 2 servers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1, test.nodes...)
			s.servers[0].remote, s.servers[0].proxied = test.remote, test.proxied
			if !test.passes {
				err := s.Preflight(t.Context())
				wantError(t, err, test.warning, "--force")
				s.Force = true
			}
			if warnings := strings.Join(s.preflight(t).Warnings, "\n"); !strings.Contains(warnings, test.warning) {
				t.Errorf("got warnings %q, want %q", warnings, test.warning)
			}
		})
	}
}

func TestWhatTheContextDoesNotTell(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change         func(s *site)
		forced, record bool
		warning        string
	}{
		"no context":           {func(s *site) { s.Cluster = nil }, false, false, "there is no kubeconfig context"},
		"no permission to get": {func(s *site) { s.refuse("get", "configmaps", rotation.RecordName, errDenied) }, true, false, "denied"},
		"none to list nodes":   {func(s *site) { s.refuse("list", "nodes", "", errDenied) }, false, true, "cannot be listed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1)
			if test.change(s); test.forced {
				err := s.Preflight(t.Context())
				wantError(t, err, "a record of the rotation cannot be kept: denied", "--force")
				s.Force = true
			}
			r := s.preflight(t)
			if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], test.warning) {
				t.Errorf("got warnings %q", r.Warnings)
			}
			outcome, _ := r.Rotate(t.Context())
			if err := r.Finish(t.Context(), outcome); err != nil || outcome != supervisor.Rotated || (s.record() != nil) != test.record {
				t.Errorf("got %s, %v, and record %v", outcome, err, s.record())
			}
		})
	}
}
