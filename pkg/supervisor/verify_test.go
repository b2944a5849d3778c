package supervisor_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestVerdictsByRole(t *testing.T) {
	t.Parallel()
	const accepted, refused, forbidden = supervisor.Accepted, supervisor.Refused, supervisor.Forbidden
	const serverToken, agentToken = "K10::server:" + serverPassword, "K10::node:" + agentPassword
	for _, test := range []struct {
		name, token   string
		server        *k3s
		agent, joiner supervisor.Verdict
		says          [2]string // the hints of the two roles
	}{
		{"bootstrap token", bootstrapToken, &k3s{}, accepted, forbidden, [2]string{"", "bootstrap tokens join agents only"}},
		{"unknown bootstrap token", "zzzzzz.0123456789abcdef", &k3s{}, refused, refused, [2]string{"not expired or deleted", ""}},
		{"server token", serverToken, &k3s{}, accepted, accepted, [2]string{}},
		{"server token, older release", serverToken, &k3s{older: true}, accepted, accepted, [2]string{}},
		{"server token beside an agent token", serverToken, &k3s{ownAgent: true}, refused, accepted, [2]string{"its agent token if it has one", "both: --token and --agent-token"}},
		{"wrong server token", "K10::server:" + wrongPassword, &k3s{}, refused, refused, [2]string{"last started", "use the server token"}},
		{"agent token", agentToken, &k3s{}, accepted, refused, [2]string{"", "use the server token"}},
		{"bare server password", serverPassword, &k3s{}, accepted, accepted, [2]string{}},
		{"bare agent password", agentPassword, &k3s{}, accepted, refused, [2]string{}},
		{"another user, since nodes use their own", "K10::me:" + serverPassword, &k3s{}, accepted, accepted, [2]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u, _ := newK3s(t, test.server, nil)
			for i, want := range []supervisor.Verdict{test.agent, test.joiner} {
				role := []supervisor.Role{supervisor.Agent, supervisor.Server}[i]
				report := verify(t, u, test.token, role, quick(test.server.hash))
				if report.Verdict != want || len(report.Steps) != stepCredentials {
					t.Errorf("%s: got %+v, want %s", role, report, want)
				}
				if joins := want == accepted && test.says[i] == ""; joins != (report.Err == nil) {
					t.Errorf("%s: got %v", role, report.Err)
				} else if !joins {
					checkError(t, report.Err, test.says[i])
				}
			}
			if len(test.server.rotated) != 0 {
				t.Error("the token was rotated")
			}
		})
	}
}

func TestBusyServersAreAskedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status   int
		refusals int32
		want     supervisor.Verdict
	}{
		{http.StatusTooManyRequests, 3, supervisor.Accepted},
		{http.StatusServiceUnavailable, 3, supervisor.Accepted},
		{http.StatusTooManyRequests, 4, supervisor.Busy},
		{http.StatusServiceUnavailable, 4, supervisor.NotReady},
		{http.StatusInternalServerError, 1, supervisor.Unexpected},
	} {
		k, asked := &k3s{}, atomic.Int32{}
		u, _ := newK3s(t, k, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" || asked.Add(1) > test.refusals {
				return false
			}
			w.WriteHeader(test.status)
			return true
		})
		if report := verify(t, u, bootstrapToken, supervisor.Agent, quick(k.hash)); report.Verdict != test.want {
			t.Errorf("%d times %d: got %+v, want %s", test.refusals, test.status, report, test.want)
		}
	}
}
