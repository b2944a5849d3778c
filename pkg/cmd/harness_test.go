package cmd_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

const (
	secretPart   = "thisisthesecret0"
	given        = "abcdef." + secretPart
	defaultGroup = "system:bootstrappers:k3s:default-node-token"
)

// notFound is what the operating system says of a file that is not there.
var notFound = syscall.ENOENT.Error()

var now = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is an API server and a kubeconfig that leads to it.
type cluster struct {
	*apitest.Server
	kubeconfig string
	caHash     string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: apitest.NewTLS(t), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	c.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(ca)})
	var err error
	if c.caHash, err = token.CAHash(ca, now); err != nil {
		t.Fatal(err)
	}
	c.writeKubeconfig(t, func(config *clientcmdapi.Cluster) { config.CertificateAuthorityData = ca })
	return c
}

func (c *cluster) writeKubeconfig(t *testing.T, change func(*clientcmdapi.Cluster)) {
	t.Helper()
	server := &clientcmdapi.Cluster{Server: c.URL}
	change(server)
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": server},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {Token: "bearer"}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
}

// put puts a token into the cluster, made a day ago.
func (c *cluster) put(id string, change func(*corev1.Secret)) {
	secret := (&bootstrap.Token{
		Token:   token.Token{ID: id, Secret: secretPart},
		Expires: now.Add(time.Hour),
		Usages:  bootstrap.DefaultUsages(),
		Groups:  []string{defaultGroup},
	}).Secret()
	secret.CreationTimestamp = metav1.NewTime(now.Add(-24 * time.Hour))
	if change != nil {
		change(secret)
	}
	c.Put(secret)
}

// holds fails the test where the cluster has other tokens than those.
func (c *cluster) holds(t *testing.T, ids ...string) {
	t.Helper()
	want := make([]string, len(ids))
	for i, id := range ids {
		want[i] = "bootstrap-token-" + id
	}
	if got := c.Names(); !slices.Equal(got, want) {
		t.Errorf("the cluster holds %v, want %v", got, want)
	}
}

// A call is one run of the program.
type call struct {
	cluster *cluster // nil for none: KUBECONFIG leads nowhere
	ctx     context.Context
	stdin   string
	in      io.Reader // instead of stdin
	stdout  io.Writer // nil for a buffer
	lost    bool      // nobody gets what goes to stdout
	random  io.Reader // nil for one that is the same each time
	now     func() time.Time
	args    []string
	name    string // what the program is called by; empty for its own name
}

type outcome struct {
	code        int
	out, stderr string
}

// buffer may be written by several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

func (c call) run(t *testing.T) outcome {
	t.Helper()
	var out, stderr buffer
	env := cmd.Env{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(c.stdin), Out: &out, ErrOut: &stderr},
		OutIsLost: c.lost,
		Now:       func() time.Time { return now },
		Sleep:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Random:    &lockedReader{r: rand.NewChaCha8([32]byte{3})},
		SystemCAs: func() (*x509.CertPool, error) { return x509.NewCertPool(), nil },
		Build:     cmd.Build{Version: "v0.0.0-test"},
	}
	if c.in != nil {
		env.In = c.in
	}
	if c.stdout != nil {
		env.Out = c.stdout
	}
	if c.random != nil {
		env.Random = c.random
	}
	if c.now != nil {
		env.Now = c.now
	}
	ctx := c.ctx
	if ctx == nil {
		ctx = t.Context()
	}
	args := append([]string{cmp.Or(c.name, cmd.BinaryName)}, c.args...)
	if c.cluster != nil {
		args = append(args, "--kubeconfig", c.cluster.kubeconfig)
	}
	code := cmd.Run(ctx, args, env)
	return outcome{code, out.String(), stderr.String()}
}

// run runs the program against the cluster.
func (c *cluster) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return call{cluster: c, args: args}.run(t)
}

// offline runs the program where there is no cluster.
func offline(t *testing.T, args ...string) outcome {
	t.Helper()
	return call{args: args}.run(t)
}

// callAs is offline for a program that is called by another name.
func callAs(t *testing.T, name string, args ...string) outcome {
	t.Helper()
	return call{name: name, args: args}.run(t)
}

// wants fails the test where the exit code is another, or a stream does not
// hold the text; an empty text wants an empty stream.
func (o outcome) wants(t *testing.T, code int, out, stderr string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, stream := range []struct{ name, got, want string }{{"stdout", o.out, out}, {"stderr", o.stderr, stderr}} {
		if stream.want == "" && stream.got != "" || !strings.Contains(stream.got, stream.want) {
			t.Errorf("%s is\n%s\nwant %q in it", stream.name, mask(stream.got), stream.want)
		}
	}
}

// hides fails the test where a stream holds the secret.
func (o outcome) hides(t *testing.T, secret string) {
	t.Helper()
	if strings.Contains(o.out, secret) || strings.Contains(o.stderr, secret) {
		t.Errorf("the secret is shown:\n%s\n%s", mask(o.out), mask(o.stderr))
	}
}

func mask(s string) string { return strings.ReplaceAll(s, secretPart, "<the secret>") }

// interruptible returns a context, and what interrupts it as Ctrl-C does.
func interruptible(t *testing.T) (context.Context, func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return ctx, func() { cancel(cmd.Interrupted{ExitCode: 130}) }
}

// brokenWriter fails on whatever is written to it, if it is not nothing.
type brokenWriter struct{ err error }

func (w brokenWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, w.err
}

// wantPrivate fails the test where others can read the file. On Windows the mode
// does not say.
func wantPrivate(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("the file: %v (%v), want mode 0600", info, err)
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
