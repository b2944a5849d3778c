// Package join writes what to paste on a new machine so that it joins a cluster
// as an agent.
package join

import (
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Kind is a way to hand a token to a new machine.
type Kind string

const (
	// Install is a shell command that installs K3s or RKE2 and starts the agent.
	Install Kind = "install"
	// Agent is a shell command that starts an installed agent.
	Agent Kind = "agent"
	// Config is the agent's config.yaml.
	Config Kind = "config"
)

// Kinds returns all kinds, for help and completion.
func Kinds() []string {
	return []string{string(Install), string(Agent), string(Config)}
}

// Params are the values of a join command.
type Params struct {
	// URL is the address that the new machine dials.
	URL supervisor.URL
	// Token is written in full, its secret included.
	Token token.Token
	// Distribution is RKE2 for RKE2's commands; any other value means K3s.
	Distribution supervisor.Distribution
	// Version is the release to install, such as v1.31.1+k3s1. It is for Install
	// alone; an empty one installs the newest stable release.
	Version string
}

// Command returns what to paste on the new machine, without a final newline:
// a line of POSIX shell, or YAML for Config. The names of flags, variables and
// keys are those of https://docs.k3s.io/installation/configuration and
// https://docs.rke2.io/install/quickstart.
//
// The token never follows -t: some releases of K3s show that flag's value in an
// annotation of the Node (k3s-io/k3s#14347).
func Command(kind Kind, p Params) (string, error) {
	switch kind {
	case Install:
		if p.Distribution == supervisor.RKE2 {
			return p.installRKE2()
		}
		return p.installK3s(), nil
	case Agent:
		return p.agent(), nil
	case Config:
		return p.config()
	}
	return "", errors.New("the kind of join command must be " + strings.Join(Kinds(), ", "))
}

func (p Params) installK3s() string {
	return fmt.Sprintf("curl -sfL https://get.k3s.io | K3S_URL=%s K3S_TOKEN=%s INSTALL_K3S_VERSION=%s sh -",
		shellQuote(p.URL.String()), shellQuote(p.Token.Reveal()), shellQuote(p.Version))
}

// installRKE2 writes a configuration file first, since RKE2's install script
// takes neither address nor token.
func (p Params) installRKE2() (string, error) {
	config, err := p.config()
	if err != nil {
		return "", err
	}
	var lines []string // of the file, each a word for printf
	for line := range strings.SplitSeq(config, "\n") {
		lines = append(lines, shellQuote(line))
	}
	return fmt.Sprintf("mkdir -p /etc/rancher/rke2 && (umask 077 && printf '%%s\\n' %s >/etc/rancher/rke2/config.yaml) && "+
		"curl -sfL https://get.rke2.io | INSTALL_RKE2_TYPE=agent INSTALL_RKE2_VERSION=%s sh - && systemctl enable --now rke2-agent",
		strings.Join(lines, " "), shellQuote(p.Version)), nil
}

func (p Params) agent() string {
	program := supervisor.K3s
	if p.Distribution == supervisor.RKE2 {
		program = supervisor.RKE2
	}
	return fmt.Sprintf("%s agent --server %s --token %s", program, shellQuote(p.URL.String()), shellQuote(p.Token.Reveal()))
}

func (p Params) config() (string, error) {
	config, err := yaml.Marshal(map[string]string{"server": p.URL.String(), "token": p.Token.Reveal()})
	return strings.TrimSuffix(string(config), "\n"), err
}

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
