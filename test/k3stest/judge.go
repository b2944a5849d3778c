package k3stest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Verdict is the result of an attempt to join a cluster.
type Verdict struct {
	// Joins reports whether the cluster let the node in.
	Joins bool
	// Words are the reason otherwise, in K3s's own words.
	Words string
}

// etcdDisabled is the last word of a server that was let in by a cluster which has
// no embedded etcd to join (pkg/server/router.go, bootstrapHandler).
const etcdDisabled = "etcd disabled"

// A complaint is how K3s's log says that something went wrong with a join; an agent
// then tries again (pkg/agent/run.go, pkg/agent/config/config.go).
var complaint = regexp.MustCompile(`level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"|server is not ready: ((?:[^"\\]|\\.)*)"`)

// JudgeAgent has a real agent join, until it has its certificate from the cluster or
// complains for the first time. The machine is a new one each time, but for its node
// password.
func (m *Machine) JudgeAgent(ctx context.Context, url, token string, env ...string) (Verdict, error) {
	if err := os.RemoveAll(m.file("var")); err != nil {
		return Verdict{}, err
	}
	if err := m.Start(m.options.Program+" agent", m.join(url, token, env)...); err != nil {
		return Verdict{}, err
	}
	certificate := filepath.Join("var/lib/rancher", m.options.Program, "agent/client-kubelet.crt")
	var verdict Verdict
	err := poll(ctx, m.process.ended, func(context.Context) error {
		words := lastComplaint(m.Log())
		if content, err := os.ReadFile(m.file(certificate)); err == nil && len(content) > 0 {
			verdict.Joins = true
			return nil
		}
		verdict.Words = words
		if words == "" {
			return errors.New("the agent has not said anything yet")
		}
		return nil
	})
	return verdict, errors.Join(err, m.Stop())
}

// JudgeServer has a real server join a cluster of [Start], which must have no embedded
// etcd. The cluster lets the server in, has no place for it, and does not change.
func (m *Machine) JudgeServer(ctx context.Context, url, token string, env ...string) (Verdict, error) {
	if err := os.RemoveAll(m.file("var")); err != nil {
		return Verdict{}, err
	}
	command := m.options.Program + " server " + strings.Join(controlPlaneOnly, " ")
	if err := m.Start(command, m.join(url, token, env)...); err != nil {
		return Verdict{}, err
	}
	select {
	case <-m.process.ended:
	case <-ctx.Done():
		return Verdict{}, errors.Join(ctx.Err(), m.Stop())
	}
	words := lastComplaint(m.Log())
	if strings.HasSuffix(words, etcdDisabled) {
		return Verdict{Joins: true}, nil
	}
	return Verdict{Words: words}, nil
}

// join is the environment of a K3s that joins.
func (m *Machine) join(url, token string, env []string) []string {
	prefix := strings.ToUpper(m.options.Program)
	return append([]string{prefix + "_URL=" + url, prefix + "_TOKEN=" + token}, env...)
}

func lastComplaint(log string) string {
	found := complaint.FindAllStringSubmatch(log, -1)
	if len(found) == 0 {
		return ""
	}
	last := found[len(found)-1]
	return last[1] + last[2]
}
