package cmd

import (
	"maps"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// awkward are values that YAML or a shell would take for something else.
var awkward = []string{
	"plain", "it's", `"quoted"`, `back\slash`, "a: b", "a #b", "#a", "- a", "? a", "[a]", "{a: b}", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a`",
	"yes", "no", "on", "null", "~", "true", "1e3", "0x10", "010", "1_000", "12:30:45", "2030-01-31", ".inf", "=", "<<",
	" blank", "blank ", "line\nbreak", "line\n", "tab\there", "\r", "ünïcode 漢字", "\u2028", "\x1b[31m", "$(id)", "$HOME", "!!", "a%sb", "--flag", "---", "...",
	strings.Repeat("long ", 60), "",
}

func TestConfigFileHoldsTheValuesAsTheyAre(t *testing.T) {
	for _, value := range awkward {
		url := "https://k3s.example.com:6443"
		secret := token.Token{User: token.UserServer, Secret: token.Secret(value)}
		file, err := joinConfigFile(url, secret)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := yaml.UnmarshalStrict([]byte(file+"\n"), &got); err != nil {
			t.Errorf("%q: %v in\n%s", value, err, file)
		}
		if want := (map[string]any{"server": url, "token": value}); !maps.Equal(got, want) {
			t.Errorf("read back as %q, want %q", got, want)
		}
		if !strings.HasPrefix(file, "server: ") {
			t.Errorf("it starts with %q", file[:10])
		}
	}
}

func TestInstallLineHoldsTheValuesAsTheyAre(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no /bin/sh")
	}
	// The program that the line calls prints what it was given.
	const curl = `curl() { :; }; sh() { printf '%s|%s|%s' "$K3S_URL" "$K3S_TOKEN" "$INSTALL_K3S_VERSION"; }; k3s() { printf '%s|' "$@"; }; `
	for _, value := range awkward {
		url := "https://k3s.example.com:6443/" + value
		tok := token.Token{Secret: token.Secret(value)}
		for kind, want := range map[joinKind]string{
			joinInstall: url + "|" + value + "|v1.31.1+k3s1",
			joinAgent:   "agent|--server|" + url + "|--token|" + value + "|",
		} {
			line, err := joinCommand(kind, url, tok, cluster.K3s, "v1.31.1+k3s1")
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", curl+line).CombinedOutput()
			if err != nil || string(out) != want {
				t.Errorf("%s: sh makes %q of %q (%v)", kind, out, value, err)
			}
		}
	}
}

func TestInstallLineOfRKE2WritesItsConfigFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no /bin/sh")
	}
	for _, value := range awkward {
		line, err := joinCommand(joinInstall, "https://rke2.example.com:9345", token.Token{Secret: token.Secret(value)}, cluster.RKE2, "v1.31.1+rke2r1")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(line, " && curl -sfL https://get.rke2.io | INSTALL_RKE2_TYPE=agent INSTALL_RKE2_VERSION='v1.31.1+rke2r1' sh - && systemctl enable --now rke2-agent") {
			t.Errorf("the line ends in %q", line[max(0, len(line)-160):])
		}
		dir := t.TempDir()
		start, _, _ := strings.Cut(strings.ReplaceAll(line, "/etc/rancher/rke2", dir), " && curl ")
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", start+" && cat "+dir+"/config.yaml").CombinedOutput()
		var got map[string]any
		if err != nil || yaml.UnmarshalStrict(out, &got) != nil || got["token"] != value || got["server"] != "https://rke2.example.com:9345" {
			t.Errorf("the file holds %q, want the token %q (%v)", got, value, err)
		}
		mode, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "ls -l "+dir+"/config.yaml").Output()
		if err != nil || !strings.HasPrefix(string(mode), "-rw------- ") {
			t.Errorf("the file is %s (%v)", mode, err)
		}
	}
}
