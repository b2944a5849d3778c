package join

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// program has the differences between K3s and RKE2.
type program struct {
	name         string
	script       string // the project's own install script
	scriptMirror string // that of the mirror in China
}

func (p Params) program() program {
	if p.Distribution == supervisor.RKE2 {
		return program{"rke2", "https://get.rke2.io", "https://rancher-mirror.rancher.cn/rke2/install.sh"}
	}
	return program{"k3s", "https://get.k3s.io", "https://rancher-mirror.rancher.cn/k3s/k3s-install.sh"}
}

// variable returns the name of a variable of the program, such as K3S_URL, or of its
// install script, such as INSTALL_K3S_VERSION.
func (p Params) variable(format string) string {
	return fmt.Sprintf(format, strings.ToUpper(p.program().name))
}

// configFile is the path of an agent's configuration.
func (p Params) configFile() string {
	return fmt.Sprintf("/etc/rancher/%s/config.yaml", p.program().name)
}

func (p Params) install() (string, error) {
	if p.Distribution == supervisor.RKE2 {
		return p.installRKE2()
	}
	env := []string{"K3S_URL=" + shellQuote(p.URL.String()), "K3S_TOKEN=" + shellQuote(p.Token.Reveal())}
	if node := p.nodeFlags(); node != "" {
		return p.runScript(env, "agent"+node), nil
	}
	return p.runScript(env, ""), nil
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
	return fmt.Sprintf("mkdir -p /etc/rancher/rke2 && (umask 077 && printf '%%s\\n' %s >%s) && %s",
		strings.Join(lines, " "), p.configFile(), p.installService()), nil
}

// installService returns the command that installs the service of an agent which
// has its config.yaml already, and starts it.
func (p Params) installService() string {
	if p.Distribution == supervisor.RKE2 {
		return p.runScript([]string{"INSTALL_RKE2_TYPE=agent"}, "") + " && systemctl enable --now rke2-agent"
	}
	return p.runScript(nil, "agent")
}

// runScript returns the command that downloads the install script and runs it with
// variables and arguments, both quoted already.
func (p Params) runScript(env []string, args string) string {
	script := p.program().script
	switch {
	case p.InstallURL != "":
		script = shellQuote(p.InstallURL)
	case p.InstallMirror != "":
		script = p.program().scriptMirror
	}
	if p.InstallMirror != "" {
		env = append(env, p.variable("INSTALL_%s_MIRROR=")+shellQuote(p.InstallMirror))
	}
	if p.Version != "" {
		env = append(env, p.variable("INSTALL_%s_VERSION=")+shellQuote(p.Version))
	}
	words := append([]string{"curl -sfL", script, "|"}, env...)
	if args == "" {
		return strings.Join(append(words, "sh -"), " ")
	}
	return strings.Join(append(words, "sh -s -", args), " ")
}

func (p Params) agent() (string, error) {
	return fmt.Sprintf("%s agent --server %s --token %s%s",
		p.program().name, shellQuote(p.URL.String()), shellQuote(p.Token.Reveal()), p.nodeFlags()), nil
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

func (p Params) config() (string, error) {
	return marshal(agentConfig{p.URL.String(), p.Token.Reveal(), p.NodeName, p.NodeLabels, p.NodeTaints})
}

func (p Params) env() (string, error) {
	lines := []string{
		p.variable("%s_URL=") + envQuote(p.URL.String()),
		p.variable("%s_TOKEN=") + envQuote(p.Token.Reveal()),
	}
	if p.NodeName != "" {
		lines = append(lines, p.variable("%s_NODE_NAME=")+envQuote(p.NodeName))
	}
	return strings.Join(lines, "\n"), nil
}

// cloudInit returns user data of cloud-init
// (https://docs.cloud-init.io/en/latest/reference/modules.html). The command ends with
// a newline, so that YAML does not fold it.
func (p Params) cloudInit() (string, error) {
	config, err := p.config()
	if err != nil {
		return "", err
	}
	file := map[string]string{"path": p.configFile(), "permissions": "0600", "content": config + "\n"}
	text, err := marshal(map[string]any{
		"write_files": []any{file},
		"runcmd":      []string{p.installService() + "\n"},
	})
	return "#cloud-config\n" + text, err
}

// marshal returns v as YAML without a final newline.
func marshal(v any) (string, error) {
	text, err := yaml.Marshal(v)
	return strings.TrimSuffix(string(text), "\n"), err
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
