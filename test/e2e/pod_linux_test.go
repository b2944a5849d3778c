package e2e

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asPod makes the rest of its command line see the files that every Pod has,
// which are its first two arguments: a CA bundle, and a ServiceAccount's token.
const asPod = `set -e
mount -t tmpfs tmpfs /run
folder=/run/secrets/kubernetes.io/serviceaccount
[ /var/run -ef /run ] || { mkdir -p /var/run; mount --bind /run /var/run; }
mkdir -p "$folder"
cp "$1" "$folder/ca.crt"
cp "$2" "$folder/token"
printf kube-system > "$folder/namespace"
shift 2
exec "$@"`

// TestInAPod runs commands where there is no kubeconfig but what Kubernetes
// gives each Pod, in a mount namespace of their own.
func TestInAPod(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace can be made by root only")
	}
	server := borrowServer(t, "k3s")
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	api, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	credentials := filepath.Join(dir, "token")
	if err := os.WriteFile(credentials, []byte(adminToken(t, server, "pod")), 0o600); err != nil {
		t.Fatal(err)
	}
	inPod := func(args ...string) (stdout string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, "sh", append([]string{"-c", asPod, "sh", server.CAFile, credentials, binary}, args...)...)
		command.Dir = dir
		command.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
			"KUBERNETES_SERVICE_HOST=" + api.Hostname(), "KUBERNETES_SERVICE_PORT=" + api.Port(),
		}
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		var stderr strings.Builder
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", args[0], err, redact([]any{stderr.String()})[0])
		}
		return string(out)
	}
	if out := inPod("create", "inapod.0123456789abcdef"); !strings.HasPrefix(out, "K10") {
		t.Error("create prints no token in secure format")
	}
	if out := inPod("list", "-o", "name"); !strings.Contains(out, "secret/bootstrap-token-inapod\n") {
		t.Errorf("list prints %q", out)
	}
	inPod("delete", "inapod")
}
