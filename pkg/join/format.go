package join

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// program returns the name of the program that the new machine runs.
func (p Params) program() string {
	if p.Distribution == supervisor.RKE2 {
		return "rke2"
	}
	return "k3s"
}

// variable returns the name of an environment variable, such as K3S_URL for %s_URL.
func (p Params) variable(format string) string {
	return fmt.Sprintf(format, strings.ToUpper(p.program()))
}

func (p Params) install() string {
	if p.Distribution == supervisor.RKE2 {
		return p.installRKE2()
	}
	env := []string{"K3S_URL=" + shellQuote(p.URL.String()), "K3S_TOKEN=" + shellQuote(p.Token.Reveal())}
	if node := p.nodeFlags(); node != "" {
		return p.runScript(env, "sh -s - agent"+node)
	}
	return p.runScript(env, "sh -")
}

// installRKE2 writes a configuration file first, since RKE2's install script
// takes neither address nor token.
func (p Params) installRKE2() string {
	var lines []string // of the file, each a word for printf
	for line := range strings.SplitSeq(p.config(), "\n") {
		lines = append(lines, shellQuote(line))
	}
	return fmt.Sprintf("mkdir -p /etc/rancher/rke2 && (umask 077 && printf '%%s\\n' %s >/etc/rancher/rke2/config.yaml) && %s",
		strings.Join(lines, " "), p.installService())
}

// installService returns the command that installs the service of an agent which
// has its config.yaml already, and starts it.
func (p Params) installService() string {
	if p.Distribution == supervisor.RKE2 {
		return p.runScript([]string{"INSTALL_RKE2_TYPE=agent"}, "sh -") + " && systemctl enable --now rke2-agent"
	}
	return p.runScript(nil, "sh -s - agent")
}

// runScript returns the command that downloads the install script and runs it with a
// shell and with variables, which are quoted already.
func (p Params) runScript(env []string, shell string) string {
	if p.InstallMirror != "" {
		env = append(env, p.variable("INSTALL_%s_MIRROR=")+shellQuote(p.InstallMirror))
	}
	if p.Version != "" {
		env = append(env, p.variable("INSTALL_%s_VERSION=")+shellQuote(p.Version))
	}
	return fmt.Sprintf("curl -sfL %s | %s", p.script(), strings.Join(append(env, shell), " "))
}

// script returns the address of the install script: the project's own, or that of
// its mirror in China.
func (p Params) script() string {
	switch {
	case p.InstallURL != "":
		return shellQuote(p.InstallURL)
	case p.InstallMirror == "":
		return "https://get." + p.program() + ".io"
	case p.Distribution == supervisor.RKE2:
		return "https://rancher-mirror.rancher.cn/rke2/install.sh"
	}
	return "https://rancher-mirror.rancher.cn/k3s/k3s-install.sh"
}

func (p Params) agent() string {
	return fmt.Sprintf("%s agent --server %s --token %s%s",
		p.program(), shellQuote(p.URL.String()), shellQuote(p.Token.Reveal()), p.nodeFlags())
}

// nodeFlags returns the agent's flags about its node, with a blank in front of each.
func (p Params) nodeFlags() string {
	flags := ""
	if p.NodeName != "" {
		flags += " --node-name " + shellQuote(p.NodeName)
	}
	for _, label := range p.NodeLabels {
		flags += " --node-label " + shellQuote(label)
	}
	for _, taint := range p.NodeTaints {
		flags += " --node-taint " + shellQuote(taint)
	}
	return flags
}

// agentConfig is an agent's config.yaml, whose keys are the agent's flags (K3s:
// pkg/configfilearg).
type agentConfig struct {
	Server     string   `json:"server"`
	Token      string   `json:"token"`
	NodeName   string   `json:"node-name,omitempty"`
	NodeLabels []string `json:"node-label,omitempty"`
	NodeTaints []string `json:"node-taint,omitempty"`
}

func (p Params) config() string {
	return toYAML(agentConfig{p.URL.String(), p.Token.Reveal(), p.NodeName, p.NodeLabels, p.NodeTaints})
}

func (p Params) env() string {
	lines := []string{
		p.variable("%s_URL=") + envQuote(p.URL.String()),
		p.variable("%s_TOKEN=") + envQuote(p.Token.Reveal()),
	}
	if p.NodeName != "" {
		lines = append(lines, p.variable("%s_NODE_NAME=")+envQuote(p.NodeName))
	}
	return strings.Join(lines, "\n")
}

// cloudInit returns user data of cloud-init
// (https://docs.cloud-init.io/en/latest/reference/modules.html). The command ends with
// a newline, so that YAML does not fold it.
func (p Params) cloudInit() string {
	file := map[string]string{
		"path":        "/etc/rancher/" + p.program() + "/config.yaml",
		"permissions": "0600",
		"content":     p.config() + "\n",
	}
	return "#cloud-config\n" + toYAML(map[string]any{
		"write_files": []any{file},
		"runcmd":      []string{p.installService() + "\n"},
	})
}

// toYAML returns v as YAML without a final newline. It cannot fail for strings.
func toYAML(v any) string {
	text, _ := yaml.Marshal(v)
	return strings.TrimSuffix(string(text), "\n")
}

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// envQuote returns s as a value that both systemd (EnvironmentFile= in
// systemd.exec(5)) and a shell read back as it was. Single quotes would not do:
// systemd does not join the quoted parts of a word.
func envQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(s) + `"`
}
