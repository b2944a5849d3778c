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

// complaints are how K3s's log says that a join went wrong. An agent then tries again
// (pkg/agent/run.go, pkg/agent/config/config.go), and a server ends.
var complaints = map[string]*regexp.Regexp{
	"agent":  regexp.MustCompile(`level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"|server is not ready: ((?:[^"\\]|\\.)*)"`),
	"server": regexp.MustCompile(`level=fatal msg="((?:[^"\\]|\\.)*)"`),
}

// Judge has a real "agent" or "server" join a cluster of [Start], which must have no
// embedded etcd. An agent has joined when it has its certificate. A server is let in,
// but there is no place for it, and the cluster does not change. The machine is a new
// one each time, but for its node password.
func (m *Machine) Judge(ctx context.Context, role, url, token string, env ...string) (Verdict, error) {
	if err := os.RemoveAll(m.file("var")); err != nil {
		return Verdict{}, err
	}
	command := m.options.Program + " " + role
	if role == "server" {
		command += " " + strings.Join(controlPlaneOnly, " ")
	}
	prefix := strings.ToUpper(m.options.Program)
	if err := m.Start(command, append([]string{prefix + "_URL=" + url, prefix + "_TOKEN=" + token}, env...)...); err != nil {
		return Verdict{}, err
	}
	defer m.Stop()
	certificate := m.file(filepath.Join("var/lib/rancher", m.options.Program, "agent/client-kubelet.crt"))
	var verdict Verdict
	err := m.process.await(ctx, func(context.Context) error {
		verdict = Verdict{}
		for _, match := range complaints[role].FindAllStringSubmatch(m.Log(), -1) {
			verdict.Words = strings.Join(match[1:], "")
		}
		content, _ := os.ReadFile(certificate)
		verdict.Joins = len(content) > 0 || strings.HasSuffix(verdict.Words, etcdDisabled)
		if !verdict.Joins && verdict.Words == "" {
			return errors.New("it has not said anything yet")
		}
		return nil
	})
	return verdict, err
}
