package cmd_test

import (
	"strings"
	"testing"
)

func TestJoinCommandPrintsAnExistingTokenInEachFormat(t *testing.T) {
	t.Parallel()
	const url = " --url https://k3s.example.com:6443"
	a := newAPI(t, login)
	for args, want := range map[string][2]string{ // a part of stdout, and of stderr
		given + url: {"curl -sfL https://get.k3s.io | K3S_URL='https://k3s.example.com:6443' K3S_TOKEN='K10", ""},
		"- --format agent --node-label a=b,c=d --node-taint e:NoExecute" + url: {"::" + given + "' --node-label 'a=b' --node-label 'c=d' --node-taint 'e:NoExecute'\n", ""},
		"- --format config --node-name w1" + url:                               {"node-name: w1\nserver: https://k3s.example.com:6443\ntoken: K10", ""},
		"- --format env" + url:                                                 {"K3S_URL=\"https://k3s.example.com:6443\"\nK3S_TOKEN=\"K10", ""},
		"- --format cloud-init --install-mirror cn" + url:                      {"INSTALL_K3S_MIRROR='cn' INSTALL_K3S_VERSION='v1.31.1+k3s1' sh -s - agent\n", ""},
		password + " --format agent --ca-file " + caFile + url:                 {"--token 'K10" + hash + ":::" + password + "'\n", ""},
		"K10" + hash + "::server:" + password + " --format agent" + url:        {"--token 'K10" + hash + "::server:" + password + "'\n", "Warning: the token's CA hash is not that of this cluster; "},
		"abcdef.0123456789abcde --format agent" + url:                          {"", "error: malformed bootstrap token: invalid token secret: must be 16 characters, got 15\nhint: "},
		"- --format agent": {"--server 'https://127.0.0.1:", "Warning: 127.0.0.1 leads a node to itself; "},

		"- --format none":                          {"", "for \"--format\" flag: must be one of install, agent, config, env, cloud-init\n"},
		"- --format env --node-label a=b":          {"", "error: an environment file has no place for labels"},
		"- --format agent --install-url https://i": {"", "error: the format agent installs nothing\nhint: "},
		"- --node-name Worker":                     {"", "error: malformed node name \"Worker\"\nhint: "},
		"- --node-name=":                           {"", "for \"--node-name\" flag: must not be empty\n"},
		"- --url <server>":                         {"", "error: --url: the server URL has a placeholder"},
		"- --ca-file none":                         {"", "error: --ca-file: open none"},
		"K10abc::x":                                {"", "error: invalid CA hash: "},
	} {
		t.Run(args, func(t *testing.T) { a.wants(t, "join-command "+args, want[0], want[1]) })
	}
	for _, request := range a.requests {
		if !strings.HasPrefix(request, "GET ") {
			t.Errorf("it changes the cluster: %s", request)
		}
	}
}
