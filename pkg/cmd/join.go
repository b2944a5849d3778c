package cmd

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// joinKind is a way to hand a token to a new machine.
type joinKind string

const (
	joinInstall joinKind = "install"
	joinAgent   joinKind = "agent"
	joinConfig  joinKind = "config"
)

func joinKinds() []string {
	return []string{string(joinInstall), string(joinAgent), string(joinConfig)}
}

// joinCommand returns what a person pastes on the new machine: shell for
// install and agent, YAML for config. The names of variables, flags and keys
// are those of https://docs.k3s.io/installation/configuration and
// https://docs.rke2.io/install/quickstart.
func joinCommand(kind joinKind, url string, t token.Token, distribution cluster.Distribution, version string) (string, error) {
	rke2 := distribution == cluster.RKE2
	switch kind {
	case joinConfig:
		return joinConfigFile(url, t)
	case joinAgent:
		program := "k3s"
		if rke2 {
			program = "rke2"
		}
		return fmt.Sprintf("%s agent --server %s --token %s", program, shellQuote(url), shellQuote(t.Reveal())), nil
	}
	if rke2 {
		// RKE2's script takes neither address nor token: they go to a file.
		config, err := joinConfigFile(url, t)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("mkdir -p /etc/rancher/rke2 && (umask 077 && printf '%%s\\n' %s >/etc/rancher/rke2/config.yaml) && curl -sfL https://get.rke2.io | INSTALL_RKE2_TYPE=agent INSTALL_RKE2_VERSION=%s sh - && systemctl enable --now rke2-agent",
			shellQuote(config), shellQuote(version)), nil
	}
	return fmt.Sprintf("curl -sfL https://get.k3s.io | K3S_URL=%s K3S_TOKEN=%s INSTALL_K3S_VERSION=%s sh -",
		shellQuote(url), shellQuote(t.Reveal()), shellQuote(version)), nil
}

func joinConfigFile(url string, t token.Token) (string, error) {
	var lines []string
	for _, field := range [][2]string{{"server", url}, {"token", t.Reveal()}} {
		line, err := yaml.Marshal(map[string]string{field[0]: field[1]})
		if err != nil {
			return "", err
		}
		lines = append(lines, strings.TrimSuffix(string(line), "\n"))
	}
	return strings.Join(lines, "\n"), nil
}

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellWord is shellQuote for a person to read: a word that needs no quotes has
// none.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+%", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return shellQuote(s)
}
