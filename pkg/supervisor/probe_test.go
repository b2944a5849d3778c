package supervisor_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

func TestProbeFindsOutWhatATokenIsGoodFor(t *testing.T) {
	t.Parallel()
	const accepted, refused, forbidden, notReady = supervisor.Accepted, supervisor.Refused, supervisor.Forbidden, supervisor.NotReady
	no := supervisor.Answer{}
	is := func(v supervisor.Verdict, status int) supervisor.Answer {
		return supervisor.Answer{Verdict: v, Status: status}
	}
	for _, test := range []struct {
		name, token     string
		server          *k3s
		agents, servers supervisor.Answer
		says            string // in the last step, or in the hint
	}{
		{"bootstrap token", bootstrapToken, &k3s{}, is(accepted, 200), no, "accepted: agents can join"},
		{"unknown bootstrap token", "zzzzzz.0123456789abcdef", &k3s{}, is(refused, 401), no, "not expired or deleted"},
		{"bootstrap token without the group", noGroupToken, &k3s{}, is(forbidden, 403), no, "usage authentication"},
		{"server token", "K10::server:" + serverPassword, &k3s{}, is(accepted, 200), is(accepted, 405), "servers and agents can join"},
		{"server token, older release", "K10::server:" + serverPassword, &k3s{older: true}, is(accepted, 200), is(accepted, 400), "servers and agents can join"},
		{"server token beside an agent token", "K10::server:" + serverPassword, &k3s{ownAgent: true}, is(refused, 401), is(accepted, 405), "agents cannot"},
		{"wrong server token", "K10::server:" + wrongPassword, &k3s{}, is(refused, 401), is(refused, 401), "last started"},
		{"agent token", "K10::node:" + agentPassword, &k3s{}, is(accepted, 200), no, "accepted: agents can join"},
		{"wrong agent token", "K10::node:" + wrongPassword, &k3s{}, is(refused, 401), no, "last started"},
		{"bare server password", serverPassword, &k3s{}, is(accepted, 200), is(accepted, 405), "servers and agents can join"},
		{"bare agent password", agentPassword, &k3s{}, is(accepted, 200), is(refused, 401), "servers cannot"},
		{"another user, since nodes use their own", "K10::me:" + serverPassword, &k3s{}, is(accepted, 200), is(accepted, 405), "servers and agents can join"},
		{"server that is not ready", bootstrapToken, &k3s{notReady: true}, is(notReady, 503), no, "try again"},
		{"server token, not ready for agents", serverPassword, &k3s{notReady: true}, is(notReady, 503), is(accepted, 405), "accepted: servers can join"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u, _ := newK3s(t, test.server, nil)
			report, err := supervisor.Verify(t.Context(), u, parse(t, test.token), quick(test.server.hash))
			want := supervisor.Finding{Agents: test.agents, Servers: test.servers}
			if report.Finding != want {
				t.Errorf("found %+v, want %+v", report.Finding, want)
			}
			last := report.Steps[len(report.Steps)-1]
			said := last.Detail
			if refusal, ok := errors.AsType[*supervisor.NotAcceptedError](err); ok {
				said = refusal.Hint()
				checkError(t, err)
			}
			if last.Number != stepCredentials || (last.Status == supervisor.Passed) != (err == nil) || (err == nil) != (want.Verdict() == accepted) || !strings.Contains(said, test.says) {
				t.Errorf("the last step is %+v, error %v, and said is %q, want %q", last, err, said, test.says)
			}
			if len(test.server.rotated) != 0 {
				t.Error("the probe rotated the token")
			}
		})
	}
}

func TestVerdictSumsUpWithTheDoubtFirst(t *testing.T) {
	t.Parallel()
	order := []supervisor.Verdict{supervisor.Accepted, supervisor.Unexpected, supervisor.NotReady, supervisor.Busy, supervisor.Forbidden, supervisor.Refused}
	for i, want := range order {
		for _, other := range order[i:] {
			f := supervisor.Finding{Agents: supervisor.Answer{Verdict: other}, Servers: supervisor.Answer{Verdict: want}}
			if reverse := (supervisor.Finding{Agents: f.Servers, Servers: f.Agents}); f.Verdict() != want || reverse.Verdict() != want {
				t.Errorf("%s and %s: got %s and %s, want %s", want, other, f.Verdict(), reverse.Verdict(), want)
			}
		}
	}
}
