package join

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// mirrorChina is the mirror that K3s and RKE2 document, with a script of its own.
const mirrorChina = "cn"

// Validate returns why the format cannot be written with these values, or why an
// agent would not start with them. It does not look at the URL.
func (p Params) Validate(name Format) error {
	f := lookup(name)
	switch {
	case f.write == nil:
		return hint.New(fmt.Sprintf("unknown format %q", name), "use one of "+strings.Join(Formats(), ", "))
	case !f.installs && p.InstallURL+p.InstallMirror != "":
		return hint.New(fmt.Sprintf("the format %s installs nothing", name), "leave --install-url and --install-mirror out")
	case name == Env && len(p.NodeLabels)+len(p.NodeTaints) > 0:
		return hint.New("an environment file has no place for labels and taints", "use the format config")
	case p.InstallURL != "" && !isWebAddress(p.InstallURL):
		return hint.New("the address of the install script is malformed", "write a URL such as https://get.k3s.io")
	case p.InstallURL == "" && p.InstallMirror != "" && p.InstallMirror != mirrorChina:
		return hint.New(fmt.Sprintf("unknown mirror %q", p.InstallMirror), "use cn, or name the mirror's own script with --install-url")
	}
	if slices.ContainsFunc([]string{p.Token.Reveal(), p.Version, p.InstallURL, p.InstallMirror}, isUnprintable) {
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
		effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
		if isMalformed(key, value) || !slices.Contains(effects, corev1.TaintEffect(effect)) {
			return hint.New(fmt.Sprintf("malformed node taint %q", taint),
				"write KEY=VALUE:EFFECT; EFFECT is NoSchedule, PreferNoSchedule or NoExecute")
		}
	}
	return nil
}

func isMalformed(key, value string) bool {
	return len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(value)) > 0
}
