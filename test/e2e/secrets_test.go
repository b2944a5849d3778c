package e2e

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// leak returns the form in which a text shows a secret, or nothing. Of base64
// only the part counts that does not depend on its neighbours.
func leak(text, secret string) string {
	forms := []string{secret}
	for offset := range 3 {
		shifted := strings.Repeat("x", offset) + secret
		encoded := base64.StdEncoding.EncodeToString([]byte(shifted))
		forms = append(forms, encoded[4:len(shifted)/3*4])
	}
	for _, form := range forms {
		if strings.Contains(text, form) {
			return form
		}
	}
	return ""
}

// secretive are commands over tokens, in the order in which they are run. "!"
// marks one that must fail, "+" one that is to print a token. The text after "<" is
// standard input, and a first word with "=" is for the environment.
const secretive = `
+ create BOOTSTRAP
! create BOOTSTRAP
  create ghijkl.SECRET -o name
  create mnopqr.SECRET --output-file token
+ create stuvwx.SECRET --dry-run=server -o yaml
! create - -o jsonpath={.none} --allow-missing-template-keys=false < yzabcd.SECRET
! create yzabcd.SECRET --as nobody
! create yzabcd.SECRET --proxy-url http://user:PASSWORD@127.0.0.1:1
! create PASSWORD
  list -o wide
  list -o json
  list -o go-template={{.}}
! list BOOTSTRAP
! list --kubeconfig none --server https://127.0.0.1:1 --token PASSWORD
  extend BOOTSTRAP --ttl 1h
  extend SECURE --ttl 1h -o yaml
! extend abcdef.fedcba9876543210 FOREIGN --ttl 1h
! extend - --ttl 1h < PASSWORD
  verify SECURE
  verify - -o json < BOOTSTRAP
! verify FOREIGN
! verify PASSWORD
! verify SECURE --server https://user:PASSWORD@127.0.0.1:1
  K3S_TOKEN=SERVER verify
! HTTPS_PROXY=http://user:PASSWORD@127.0.0.1:1 verify SECURE --server https://k3s.invalid:6443
  inspect SECURE
  inspect - -o json < SERVER
  inspect PASSWORD
  rotate --dry-run=server -t - < SERVER
! rotate --yes --new-token BOOTSTRAP -t - < SERVER
! rotate --yes -t - < BOOTSTRAP
! rotate --yes -t PASSWORD
! PASSWORD
! completion SECURE
  delete FOREIGN --dry-run=server
! delete PASSWORD
  delete - < BOOTSTRAP
+ create -o json
`

// TestNoCommandShowsASecret looks for secrets in the output and the log of commands
// at -v=9.
func TestNoCommandShowsASecret(t *testing.T) {
	server := plain.borrow(t)
	current := serverToken(t, server)
	hash, password, _ := strings.Cut(strings.TrimPrefix(current, "K10"), "::server:")
	secrets := []string{"thesecret0123456", "hunter2-hunter2-hunter2", password}
	id := "abcdef." + secrets[0]
	words := strings.NewReplacer("BOOTSTRAP", id, "SECURE", "K10"+hash+"::"+id, "FOREIGN", "K10"+strings.Repeat("0", 64)+"::"+id,
		"SECRET", secrets[0], "PASSWORD", secrets[1], "SERVER", current)
	for line := range strings.Lines(strings.Trim(secretive, "\n")) {
		command, stdin, _ := strings.Cut(line[2:], " < ")
		r := newRun(t, server.Kubeconfig, append(strings.Fields(words.Replace(command)), "-v=9")...)
		if first := r.Args[1]; strings.Contains(first, "=") {
			r.Env, r.Args = append(r.Env, first), slices.Delete(r.Args, 1, 2)
		}
		r.Stdin = strings.NewReader(words.Replace(stdin))
		got := r.begin().end()
		if (got.exitCode != 0) != (line[0] == '!') {
			t.Fatalf("%s: exit code %d: %s", command, got.exitCode, redact(got.stderr))
		}
		if command == "list -o wide" && !strings.Contains(got.stderr, "/secrets?") {
			t.Errorf("the log has no requests: %s", got.stderr)
		}
		texts := got.stderr
		if line[0] == '+' {
			secrets = append(secrets, secretPatterns[0].FindString(got.stdout)[len("abcdef."):])
		} else {
			texts += got.stdout
		}
		for _, secret := range secrets {
			if leak(texts, secret) != "" {
				t.Errorf("%s shows a secret", command)
			}
		}
	}
}
