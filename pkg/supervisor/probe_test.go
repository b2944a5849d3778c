package supervisor

import (
	"errors"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

func TestProbeFindsOutWhatATokenIsGoodFor(t *testing.T) {
	t.Parallel()
	no := Answer{}
	plain := func(*k3s) {}
	older := func(k *k3s) { k.older = true }
	ownAgent := func(k *k3s) { k.ownAgent = true }
	notReady := func(k *k3s) { k.notReady = true }
	answer := func(v Verdict, status int) Answer { return Answer{v, status} }
	for _, test := range []struct {
		name   string
		token  string
		server func(*k3s)
		want   Finding
		says   string
	}{
		{"bootstrap token", bootstrapToken, plain, Finding{answer(Accepted, 200), no}, "accepted: agents can join"},
		{"unknown or expired bootstrap token", "zzzzzz.0123456789abcdef", plain, Finding{answer(Refused, 401), no}, "wrong, expired, deleted"},
		{"bootstrap token without the group", noGroupToken, plain, Finding{answer(Forbidden, 403), no}, "group of joining nodes"},
		{"server token", "K10::server:" + serverPassword, plain, Finding{answer(Accepted, 200), answer(Accepted, 405)}, "servers and agents can join"},
		{"server token, older release", "K10::server:" + serverPassword, older, Finding{answer(Accepted, 200), answer(Accepted, 400)}, "servers and agents can join"},
		{"server token beside an agent token", "K10::server:" + serverPassword, ownAgent, Finding{answer(Refused, 401), answer(Accepted, 405)}, "agents cannot"},
		{"wrong server token", "K10::server:" + wrongPassword, plain, Finding{answer(Refused, 401), answer(Refused, 401)}, "not the server token's"},
		{"agent token", "K10::node:" + agentPassword, plain, Finding{answer(Accepted, 200), no}, "accepted: agents can join"},
		{"wrong agent token", "K10::node:" + wrongPassword, plain, Finding{answer(Refused, 401), no}, "neither the agent token's nor the server token's"},
		{"bare server password", serverPassword, plain, Finding{answer(Accepted, 200), answer(Accepted, 405)}, "servers and agents can join"},
		{"bare agent password", agentPassword, plain, Finding{answer(Accepted, 200), answer(Refused, 401)}, "servers cannot"},
		{"another user, as joining nodes put their own", "K10::me:" + serverPassword, plain, Finding{answer(Accepted, 200), answer(Accepted, 405)}, "servers and agents can join"},
		{"server that is not ready", bootstrapToken, notReady, Finding{answer(NotReady, 503), no}, "not ready"},
		{"server token, server that is not ready", serverPassword, notReady, Finding{answer(NotReady, 503), answer(Accepted, 405)}, "accepted: servers can join"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ca := newCA(t, "ca", nil)
			k := &k3s{program: "k3s", bundle: bundle(ca)}
			test.server(k)
			u, _ := serve(t, k, always(ca.issue(t, leaf{})))
			report, err := Verify(t.Context(), u, parse(t, test.token), quick(hashOf(t, k.bundle)))
			if report.Finding != test.want {
				t.Errorf("found %+v, want %+v", report.Finding, test.want)
			}
			accepted := test.want.Verdict() == Accepted
			var refusal *NotAcceptedError
			if accepted != (err == nil) || !accepted && !errors.As(err, &refusal) {
				t.Errorf("got the error %v", err)
			}
			last := report.Steps[len(report.Steps)-1]
			if last.Number != StepCredentials || (last.Status == Passed) != accepted || !strings.Contains(last.Detail, test.says) {
				t.Errorf("the last step is %+v, want one that says %q", last, test.says)
			}
			noSecretIn(t, err)
			if n, _ := k.rotations(); n != 0 {
				t.Error("the probe rotated the token")
			}
		})
	}
}

func TestVerdictSumsUpWithTheDoubtFirst(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ agents, servers, want Verdict }{
		{Untried, Untried, Untried},
		{Refused, Accepted, Accepted},
		{Refused, Busy, Busy},
		{Forbidden, Refused, Forbidden},
		{NotReady, Refused, NotReady},
		{Unexpected, Busy, Unexpected},
	} {
		f := Finding{Agents: Answer{Verdict: test.agents}, Servers: Answer{Verdict: test.servers}}
		if got := f.Verdict(); got != test.want {
			t.Errorf("%s and %s: got %s, want %s", test.agents, test.servers, got, test.want)
		}
	}
}

func TestEveryRefusalHasWords(t *testing.T) {
	t.Parallel()
	for _, v := range []Verdict{Refused, Forbidden, Busy, NotReady, Unexpected} {
		seen := map[string]bool{}
		for _, typ := range []token.Type{token.Bootstrap, token.Server, token.Agent, token.Password} {
			err := &NotAcceptedError{Finding: Finding{Agents: Answer{Verdict: v, Status: 418}}, Type: typ}
			seen[err.Error()] = true
			if err.Error() == "" || strings.Contains(err.Error(), "418") != (v == Unexpected) {
				t.Errorf("%s, %s: %q", v, typ, err)
			}
		}
		if len(seen) == 0 {
			t.Errorf("%s has no words", v)
		}
	}
}
