package join_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const server = "https://k3s.example.com:6443"

// awkward returns values that YAML or a shell takes for something else if they
// are not quoted.
func awkward() []string {
	return []string{
		"plain", "K10abc::node:pw", "it's", `"quoted"`, `back\slash`, "$HOME", "$(id)", "`id`", "!!", "a b", " blank ", "a;b", "a&b", "*", "a%sb", "--flag", "~",
		"a: b", "a #b", "- a", "[a]", "{a: b}", "&a", "|", ">", "%a", "@a", "yes", "no", "null", "true", "1e3", "0x10", "010", "12:30:45", "2030-01-31", "=", "<<", "---", "...",
		"line\nbreak", "line\n", "tab\there", "\r", "ünïcode 漢字", "\u2028", "\x1b[31m", strings.Repeat("long ", 60), "",
	}
}

// command returns a join command with the value as token and in the version.
func command(t *testing.T, kind join.Kind, d supervisor.Distribution, value string) string {
	t.Helper()
	url, err := supervisor.ParseURL(server)
	if err != nil {
		t.Fatal(err)
	}
	c, err := join.Command(kind, join.Params{URL: url, Token: token.Token{Secret: token.Secret(value)}, Distribution: d, Version: "v1 " + value})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantOutput runs a command in a shell with stand-ins for the programs of the
// new machine. They print the values that they get, each behind a bar.
func wantOutput(t *testing.T, command string, values ...string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the commands are for Linux")
	}
	bin := t.TempDir()
	const printArgs = `printf '|%s' "${0##*/}" "$@"`
	for name, script := range map[string]string{
		"k3s": printArgs, "rke2": printArgs, "systemctl": printArgs,
		// The install script, which the command pipes to a shell.
		"curl": `echo 'printf "|%s" "$K3S_URL$INSTALL_RKE2_TYPE" "$K3S_TOKEN" "$INSTALL_K3S_VERSION$INSTALL_RKE2_VERSION"'`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if want := "|" + strings.Join(values, "|"); err != nil || string(out) != want {
		t.Errorf("%q prints %q (%v), want %q", command, out, err, want)
	}
}

// wantConfig checks that a config.yaml holds the server and the token.
func wantConfig(t *testing.T, config, value string) {
	t.Helper()
	var got map[string]string
	want := map[string]string{"server": server, "token": value}
	if err := yaml.UnmarshalStrict([]byte(config), &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("%q reads back as %q (%v), want %q", config, got, err, want)
	}
}

func TestShellCommandsKeepTheValues(t *testing.T) {
	for _, value := range awkward() {
		wantOutput(t, command(t, join.Install, supervisor.K3s, value), server, value, "v1 "+value)
		wantOutput(t, command(t, join.Agent, supervisor.Other, value), "k3s", "agent", "--server", server, "--token", value)
		wantOutput(t, command(t, join.Agent, supervisor.RKE2, value), "rke2", "agent", "--server", server, "--token", value)
	}
}

func TestConfigKeepsTheValues(t *testing.T) {
	for _, value := range awkward() {
		wantConfig(t, command(t, join.Config, supervisor.K3s, value)+"\n", value)
	}
}

func TestInstallOfRKE2WritesAConfigForItsOwnerAlone(t *testing.T) {
	for _, value := range awkward() {
		dir := filepath.Join(t.TempDir(), "rke2")
		install := strings.ReplaceAll(command(t, join.Install, supervisor.RKE2, value), "/etc/rancher/rke2", dir)
		wantOutput(t, install, "agent", "", "v1 "+value, "systemctl", "enable", "--now", "rke2-agent")
		file := filepath.Join(dir, "config.yaml")
		config, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		wantConfig(t, string(config), value)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %v (%v)", info.Mode(), err)
		}
	}
}

func TestAnotherKindFails(t *testing.T) {
	if got, err := join.Command("other", join.Params{}); err == nil || got != "" || !strings.Contains(err.Error(), "install, agent, config") {
		t.Errorf("%q, error %v", got, err)
	}
}
