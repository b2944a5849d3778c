package join_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const server = "https://k3s.example.com:6443"

// yamlWords returns values that YAML takes for something else if they are not quoted.
func yamlWords() []string {
	return []string{
		"", "~", "a: b", "a #b", "- a", "[a]", "{a: b}", "&a", "|", ">", "%a", "@a", "yes", "no", "null", "true", "1e3", "0x10", "010",
		"12:30:45", "2030-01-31", "=", "<<", "---", "...", " blank ", "ünïcode 漢字", "\u2028", strings.Repeat("long ", 60), awkward,
	}
}

// awkward is what a shell or systemd takes for something else if it is not quoted.
const awkward = " K10abc::node:pw it's \"quoted\" back\\slash \\$HOME\\ $HOME $(id) `id` !! a;b a&b * a%sb --flag ~ #a 漢字 "

// params returns values for a node with a label and a taint.
func params(d supervisor.Distribution, secret string) join.Params {
	url, err := supervisor.ParseURL(server)
	if err != nil {
		panic(err)
	}
	return join.Params{
		URL: url, Token: token.Token{Secret: token.Secret(secret)}, Distribution: d, Version: "v1 " + secret,
		NodeName: "worker-1", NodeLabels: []string{"rack=7", "empty="}, NodeTaints: []string{"gpu=true:NoSchedule", "new:NoExecute"},
	}
}

// nodeFlags are the flags for the node of params.
const nodeFlags = "|--node-name|worker-1|--node-label|rack=7|--node-label|empty=|--node-taint|gpu=true:NoSchedule|--node-taint|new:NoExecute"

const rke2Starts = "|systemctl|enable|--now|rke2-agent"

func command(t *testing.T, name join.Format, p join.Params) string {
	t.Helper()
	c, err := join.Command(name, p)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// machine defines the programs of the new machine as functions of a shell, which
// print the values that they get, each behind a bar.
const machine = `print() { printf '|%s' "$@"; }
k3s() { print k3s "$@"; }
rke2() { print rke2 "$@"; }
systemctl() { print systemctl "$@"; }
curl() {
	print curl "$@" >&2
	echo 'printf "|%s" "$K3S_URL" "$K3S_TOKEN" "$INSTALL_K3S_VERSION$INSTALL_RKE2_VERSION"'
	echo 'printf "|%s" "$INSTALL_K3S_MIRROR$INSTALL_RKE2_MIRROR" "$INSTALL_RKE2_TYPE" "$@"'
}
`

// wantOutput runs a command on a new machine whose configuration is in a directory.
func wantOutput(t *testing.T, dir, command, want string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the commands are for Linux")
	}
	command = strings.ReplaceAll(command, "/etc/rancher", dir)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", machine+command)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
		t.Errorf("%q prints\n%q (%v), want\n%q", command, out, err, want)
	}
}

// wantConfig checks a config.yaml.
func wantConfig(t *testing.T, config, secret string) {
	t.Helper()
	var got map[string]any
	want := map[string]any{
		"server": server, "token": secret, "node-name": "worker-1",
		"node-label": []any{"rack=7", "empty="}, "node-taint": []any{"gpu=true:NoSchedule", "new:NoExecute"},
	}
	if err := yaml.UnmarshalStrict([]byte(config), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q reads back as %q (%v), want %q", config, got, err, want)
	}
}

func TestAShellKeepsTheValues(t *testing.T) {
	dir := t.TempDir()
	wantOutput(t, dir, command(t, join.Install, params(supervisor.K3s, awkward)),
		"|curl|-sfL|https://get.k3s.io|"+server+"|"+awkward+"|v1 "+awkward+"|||agent"+nodeFlags)
	for _, d := range []supervisor.Distribution{supervisor.K3s, supervisor.RKE2} {
		p := params(d, awkward)
		wantOutput(t, dir, command(t, join.Agent, p), "|"+string(d)+"|agent|--server|"+server+"|--token|"+awkward+nodeFlags)
		p.NodeLabels, p.NodeTaints = nil, nil
		const read = "\nprint \"$K3S_URL$RKE2_URL\" \"$K3S_TOKEN$RKE2_TOKEN\" \"$K3S_NODE_NAME$RKE2_NODE_NAME\""
		wantOutput(t, dir, command(t, join.Env, p)+read, "|"+server+"|"+awkward+"|worker-1")
	}
}

func TestInstallOfRKE2WritesAConfigForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	wantOutput(t, dir, command(t, join.Install, params(supervisor.RKE2, awkward)),
		"|curl|-sfL|https://get.rke2.io|||v1 "+awkward+"||agent"+rke2Starts)
	file := filepath.Join(dir, "rke2", "config.yaml")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantConfig(t, string(config), awkward)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v (%v)", info.Mode(), err)
	}
}

// userData is what cloud-init makes of the format.
type userData struct {
	WriteFiles []struct{ Path, Permissions, Content string } `json:"write_files"`
	RunCmd     []string                                      `json:"runcmd"`
}

func TestCloudInitWritesTheConfigAndInstalls(t *testing.T) {
	for d, want := range map[supervisor.Distribution]string{
		supervisor.K3s:  "|curl|-sfL|https://get.k3s.io|||v1 " + awkward + "|||agent",
		supervisor.RKE2: "|curl|-sfL|https://get.rke2.io|||v1 " + awkward + "||agent" + rke2Starts,
	} {
		var got userData
		for _, value := range yamlWords() { // the last one is awkward
			text := command(t, join.CloudInit, params(d, value))
			if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil || !strings.HasPrefix(text, "#cloud-config\n") ||
				len(got.WriteFiles) != 1 || len(got.RunCmd) != 1 {
				t.Fatalf("%q reads back as %q (%v)", text, got, err)
			}
			wantConfig(t, got.WriteFiles[0].Content, value)
			if config := command(t, join.Config, params(d, value)); got.WriteFiles[0].Content != config+"\n" {
				t.Errorf("%q is not the format config, %q", got.WriteFiles[0].Content, config)
			}
		}
		wantOutput(t, t.TempDir(), got.RunCmd[0], want)
		if file := got.WriteFiles[0]; file.Path != "/etc/rancher/"+string(d)+"/config.yaml" || file.Permissions != "0600" {
			t.Errorf("writes %s with mode %s", file.Path, file.Permissions)
		}
	}
}

func TestCloudInitTakesTheUserData(t *testing.T) {
	cloudInit, err := exec.LookPath("cloud-init")
	if err != nil {
		t.Skip("optional, in CI too, since cloud-init brings 20 packages: ", err)
	}
	for _, d := range []supervisor.Distribution{supervisor.K3s, supervisor.RKE2} {
		file := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(file, []byte(command(t, join.CloudInit, params(d, awkward))), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), cloudInit, "schema", "--config-file", file).CombinedOutput(); err != nil {
			t.Errorf("cloud-init refuses it: %s", out)
		}
	}
}

func TestTheInstallScriptComesFromWhereTheUserSays(t *testing.T) {
	const values = "|" + server + "|pw|v1 pw|"
	for want, p := range map[string]join.Params{
		"https://get.k3s.io" + values + "|":                                               {},
		"https://rancher-mirror.rancher.cn/k3s/k3s-install.sh" + values + "cn|":           {InstallMirror: "cn"},
		"http://mirror/it's" + values + "|":                                               {InstallURL: "http://mirror/it's"},
		"https://mirror/k3s.sh" + values + "eu|":                                          {InstallURL: "https://mirror/k3s.sh", InstallMirror: "eu"},
		"https://rancher-mirror.rancher.cn/rke2/install.sh|||v1 pw|cn|agent" + rke2Starts: {Distribution: supervisor.RKE2, InstallMirror: "cn"},
	} {
		all := params(p.Distribution, "pw")
		p.URL, p.Token, p.Version = all.URL, all.Token, all.Version
		wantOutput(t, t.TempDir(), command(t, join.Install, p), "|curl|-sfL|"+want)
	}
}

func TestValuesThatNoAgentTakesAreRefused(t *testing.T) {
	for want, p := range map[string]join.Params{
		`malformed node name "Worker"`:                      {NodeName: "Worker"},
		`malformed node name "a_b"`:                         {NodeName: "a_b"},
		`malformed node name "` + strings.Repeat("a", 64):   {NodeName: strings.Repeat("a", 64)},
		`malformed node label "rack"`:                       {NodeLabels: []string{"a=b", "rack"}},
		`malformed node label "rack=a b"`:                   {NodeLabels: []string{"rack=a b"}},
		`may not give itself the label "node-role.kubernet`: {NodeLabels: []string{"node.kubernetes.io/a=b", "node-role.kubernetes.io/w=true"}},
		`malformed node taint "gpu"`:                        {NodeTaints: []string{"gpu"}},
		`malformed node taint "gpu=true:Never"`:             {NodeTaints: []string{"gpu=true:Never"}},
		`malformed node taint ":NoSchedule"`:                {NodeTaints: []string{":NoSchedule"}},
		"address of the install script is malformed":        {InstallURL: "get.k3s.io"},
		`unknown mirror "eu"`:                               {InstallMirror: "eu"},
		"a value holds control characters":                  {Token: token.Token{Secret: "a\nb"}},
	} {
		wantError(t, join.Install, p, want)
	}
	for _, url := range []string{"https://", "://x", "ftp://x/y"} {
		wantError(t, join.Install, join.Params{InstallURL: url}, "address of the install script is malformed")
	}
	wantError(t, join.Agent, join.Params{InstallMirror: "cn"}, "the format agent installs nothing")
	wantError(t, join.Env, join.Params{NodeLabels: []string{"a=b"}}, "an environment file has no place for labels")
}

func wantError(t *testing.T, name join.Format, p join.Params, want string) {
	t.Helper()
	got, err := join.Command(name, p)
	if got != "" || err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
		t.Errorf("%+v: got %q, error %v, want %q and a hint", p, got, err, want)
	}
}
