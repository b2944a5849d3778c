// Package join writes the text to paste on a new machine, so that it joins a cluster
// as an agent, and waits for its node.
package join

import (
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Format is a way to hand a token to a new machine.
type Format string

// The formats.
const (
	// Install is a shell command that installs K3s or RKE2 and starts the agent.
	Install Format = "install"
	// Agent is a shell command that starts an installed agent.
	Agent Format = "agent"
	// Config is the agent's config.yaml.
	Config Format = "config"
	// Env is the environment file of the agent's service:
	// /etc/systemd/system/k3s-agent.service.env (K3s: install.sh) or
	// /etc/default/rke2-agent.
	Env Format = "env"
	// CloudInit is user data for cloud-init, which writes config.yaml and installs.
	CloudInit Format = "cloud-init"
)

// format is how a format is written.
type format struct {
	name     Format
	write    func(Params) (string, error)
	line     bool // the result is one line
	installs bool // the result runs the install script
}

func formats() []format {
	return []format{
		{name: Install, write: Params.install, line: true, installs: true},
		{name: Agent, write: Params.agent, line: true},
		{name: Config, write: Params.config},
		{name: Env, write: Params.env},
		{name: CloudInit, write: Params.cloudInit, installs: true},
	}
}

// Formats returns the names of all formats, for help and completion.
func Formats() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, string(f.name))
	}
	return names
}

// lookup returns the format with that name. Any other name gives one that cannot
// be written.
func lookup(name Format) format {
	for _, f := range formats() {
		if f.name == name {
			return f
		}
	}
	return format{}
}

// IsLine reports whether the format is a single line, so that those of several
// tokens can stand below one another.
func (f Format) IsLine() bool { return lookup(f).line }

// Params are the values of a join command.
type Params struct {
	// URL is the address that the new machine dials.
	URL supervisor.URL
	// Token is written in full, its secret included.
	Token token.Token
	// Distribution is RKE2 for RKE2's commands; any other value means K3s.
	Distribution supervisor.Distribution
	// Version is the release to install, such as v1.31.1+k3s1. An empty one installs
	// the newest stable release.
	Version string

	// NodeName is the name of the new node; an empty one is the machine's host name.
	NodeName string
	// NodeLabels are KEY=VALUE.
	NodeLabels []string
	// NodeTaints are KEY=VALUE:EFFECT or KEY:EFFECT.
	NodeTaints []string

	// InstallURL is the address of the install script. If empty, it is the project's own.
	InstallURL string
	// InstallMirror is the value of INSTALL_K3S_MIRROR, such as cn: the source of the
	// script's downloads. The project's own script does not know it; the one for China does.
	InstallMirror string
}

// Command returns the text to paste on the new machine, without a final newline. Its
// error is that of Validate, or that the format has no place for a value. The names
// of flags, variables and keys are those of K3s (pkg/cli/cmds/agent.go and
// install.sh) and of https://docs.rke2.io/install/quickstart.
//
// The token never follows -t: some releases of K3s show that flag's value in an
// annotation of the Node (k3s-io/k3s#14347).
func Command(name Format, p Params) (string, error) {
	if err := p.Validate(name); err != nil {
		return "", err
	}
	return lookup(name).write(p)
}
