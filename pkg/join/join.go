// Package join writes the text to paste on a new machine, so that it joins a cluster
// as an agent, and waits for its node.
package join

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
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

// Formats returns the names of all formats, for help and completion.
func Formats() []string {
	return []string{string(Install), string(Agent), string(Config), string(Env), string(CloudInit)}
}

// IsLine reports whether the format is a single line, so that those of several
// tokens can stand below one another.
func (f Format) IsLine() bool { return f == Install || f == Agent }

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
// error is that of Validate, or that there is no such format. The names of flags,
// variables and keys are those of K3s (pkg/cli/cmds/agent.go and install.sh) and of
// https://docs.rke2.io/install/quickstart.
//
// The token never follows -t: some releases of K3s show that flag's value in an
// annotation of the Node (k3s-io/k3s#14347).
func Command(format Format, p Params) (string, error) {
	if err := p.Validate(format); err != nil {
		return "", err
	}
	switch format {
	case Install:
		return p.install(), nil
	case Agent:
		return p.agent(), nil
	case Config:
		return p.config(), nil
	case Env:
		return p.env(), nil
	case CloudInit:
		return p.cloudInit(), nil
	}
	return "", fmt.Errorf("unknown format %q", format)
}

// Validate returns why the format cannot be written with these values, or why an
// agent would not start with them. It does not look at the URL.
func (p Params) Validate(format Format) error {
	installs := format == Install || format == CloudInit
	switch {
	case !installs && p.InstallURL+p.InstallMirror != "":
		return hint.New(fmt.Sprintf("the format %s installs nothing", format), "leave --install-url and --install-mirror out")
	case format == Env && len(p.NodeLabels)+len(p.NodeTaints) > 0:
		return hint.New("an environment file has no place for labels and taints", "use the format config")
	case p.InstallURL != "" && !isWebAddress(p.InstallURL):
		return hint.New("the address of the install script is malformed", "write a URL such as https://get.k3s.io")
	case p.InstallURL == "" && p.InstallMirror != "" && p.InstallMirror != "cn": // the one with a script of its own
		return hint.New(fmt.Sprintf("unknown mirror %q", p.InstallMirror), "use cn, or name the mirror's own script with --install-url")
	case slices.ContainsFunc([]string{p.Token.Reveal(), p.Version, p.InstallURL, p.InstallMirror}, isUnprintable):
		return hint.New("a value holds control characters", "remove them from the token and the flags")
	}
	return p.validateNode()
}

// isUnprintable reports whether s cannot be pasted, or not be in an environment
// file: systemd ignores such lines.
func isUnprintable(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl)
}

func isWebAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// ValidateNodeName returns why no node can have the name. The name is the value of the
// label kubernetes.io/hostname, too.
func ValidateNodeName(name string) error {
	if len(validation.IsDNS1123Subdomain(name))+len(validation.IsValidLabelValue(name)) > 0 {
		return hint.New(fmt.Sprintf("malformed node name %q", name), "use at most 63 lower-case letters, digits, dashes and dots")
	}
	return nil
}

// validateNode makes the checks of the kubelet when it starts, and of the API server
// when the node registers.
func (p Params) validateNode() error {
	if p.NodeName != "" {
		if err := ValidateNodeName(p.NodeName); err != nil {
			return err
		}
	}
	for _, label := range p.NodeLabels {
		key, value, ok := strings.Cut(label, "=")
		switch {
		case !ok || isMalformed(key, value):
			return hint.New(fmt.Sprintf("malformed node label %q", label), "write KEY=VALUE")
		case strings.HasPrefix(key, "node-role.kubernetes.io/"): // the kubelet would not start
			return hint.New(fmt.Sprintf("a node may not give itself the label %q", key), "set it with kubectl label once the node has joined")
		}
	}
	for _, taint := range p.NodeTaints {
		pair, effect, _ := strings.Cut(taint, ":")
		key, value, _ := strings.Cut(pair, "=")
		if isMalformed(key, value) || !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) {
			return hint.New(fmt.Sprintf("malformed node taint %q", taint),
				"write KEY=VALUE:EFFECT; EFFECT is NoSchedule, PreferNoSchedule or NoExecute")
		}
	}
	return nil
}

func isMalformed(key, value string) bool {
	return len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(value)) > 0
}
