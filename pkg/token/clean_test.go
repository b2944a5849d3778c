package token_test

import (
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	hidden = "thisisthesecret0"
	short  = "abcdef." + hidden
	secure = "K10" + hash + "::" + short
	server = "K10" + hash + "::server:" + hidden
)

func TestCleanTakesAwayWhatSurroundsAToken(t *testing.T) {
	for _, want := range []string{
		short, secure, server, hidden, "abcdef", "secret/odd", "two words, 'quoted'", "server:pass", "K10" + hash + "::server:'a b'",
	} {
		for _, around := range []string{"", " ", "\n", "\r\n", "\ufeff", "\u00a0\t", "\u200b"} {
			if got, err := token.Clean(around + want + around); got != want || err != nil {
				t.Errorf("%d characters between %q: %d (%v)", len(want), around, len(got), err)
			}
		}
	}
}

func TestCleanRecognisesMistakes(t *testing.T) {
	for reason, texts := range map[string][]string{
		"must not be empty": {"", " \r\n"},
		"must be in UTF-8":  {"\xff\xfeK\x001\x000\x00"},
		"must not be in quotes or brackets": {
			`"` + server + `"`, "'" + hidden + "'", "`" + short + "`", "“" + secure + "”", "„" + hidden + "“", "«" + short + "»",
			`"` + server, `\"` + hidden + `\"`, `"` + hidden + `",`, "<" + secure + ">", "[" + hidden + "]", "{{" + short + "}}",
		},
		"must not follow a name": {
			"K3S_TOKEN=" + server, "export K3S_TOKEN=" + hidden, "RKE2_TOKEN='" + short + "'", `$env:K3S_TOKEN = "` + hidden + `"`,
			"token: " + server, `"token": "` + hidden + `",`, "# config.yaml\nserver: x\nagent-token: " + hidden,
			`Environment="K3S_TOKEN=` + hidden + `"`, "Token: " + short, "set -x K3S_TOKEN " + hidden,
		},
		"must not be part of an HTTP header": {"authorization: " + hidden, "Bearer " + short, `-H "Authorization: Basic ` + hidden + `"`},
		"must not be the name of a variable": {"$K3S_TOKEN", "${TOKEN}", "%TOKEN%"},
		"must not follow a flag":             {"--token " + server, "--agent-token=" + hidden, "-t " + short, "—token " + hidden},
		"must have two colons after the CA hash": {
			"K10" + hash + ":" + short, "K10" + hash + short, "K10" + hash + ":server:" + hidden, "K10" + hash + "node:" + hidden,
		},
		"must start with K10":   {secure[1:], server[3:], "k10" + server[3:], "K11" + secure[3:], "K9::" + short},
		"must be in lower case": {strings.ToUpper(short), "Abcdef." + hidden},
		"must be one of K3s, not of kubeadm": {
			"sudo kubeadm join 10.0.0.1:6443 --token " + short, short + " --discovery-token-ca-cert-hash sha256:" + hash, "sha256:" + hash,
		},
		"must be one of K3s, not of k0s":              {"H4sIAAAAAAAC/2yV" + hidden, "H4sIAAAA\nAAAC/2yV\n" + hidden},
		"must be one of K3s, not of a ServiceAccount": {"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrOHMifQ." + hidden},
		"must be the token alone, not a command": {
			"curl -sfL https://x | \\\n K3S_TOKEN=" + hidden + " sh -", "K3S_URL=https://x K3S_TOKEN=" + hidden + " k3s agent",
			"k3s agent --server https://x:6443 --token " + hidden, "sudo rke2 server -t " + hidden, "sh -s - agent --token " + hidden,
		},
		"must be the token alone": {"rack 7: " + secure, "**" + secure + "**", short + "  23h  <none>", "x=" + short},
		"must be on one line":     {secure + "\n" + secure, hidden + "\r\n" + hidden},
	} {
		for _, text := range texts {
			got, err := token.Clean(text)
			if err == nil {
				t.Errorf("%s: accepted", strings.ReplaceAll(text, hidden, "******"))
				continue
			}
			hint := wantParseError(t, err, "invalid token: "+reason)
			if said := strings.ToLower(err.Error() + hint); got != "" || strings.Contains(said, hidden) {
				t.Errorf("%s: the secret is returned", reason)
			}
		}
	}
}

// FuzzClean has a secret between other texts.
func FuzzClean(f *testing.F) {
	f.Add(`export K3S_TOKEN="`, `"`)
	f.Add("kubeadm join --token abcdef.", " --discovery-token-ca-cert-hash sha256:"+hash)
	f.Fuzz(func(t *testing.T, before, after string) {
		cleaned, err := token.Clean(before + hidden + after)
		if err != nil {
			wantParseError(t, err, "invalid token: must ")
			return
		}
		if !strings.Contains(before+hidden+after, cleaned) || !strings.Contains(cleaned, hidden) {
			t.Error("the token is changed")
		}
		if again, err := token.Clean(cleaned); err != nil || again != cleaned {
			t.Errorf("the cleaned token is cleaned again: %v", err)
		}
	})
}
