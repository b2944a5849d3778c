package cluster_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// rootHash is the hash of the root in bundle.pem:
//
//	openssl x509 -outform DER | sha256sum
const rootHash = "b399cdc325a2a7ee1446a6f998f01069dfddc09c99a74dcacdcc130d2fd8c6e0"

var forbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "kube-root-ca.crt", errors.New("no"))

// bundle returns a file of pkg/token's testdata.
func bundle(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "token", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(b []byte) string {
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:])
}

func edit(b []byte, oldNew ...string) []byte {
	return []byte(strings.NewReplacer(oldNew...).Replace(string(b)))
}

func crlf(b []byte) []byte { return edit(b, "\n", "\r\n") }

// oneLine returns the PEM of one certificate with its base64 in one line.
func oneLine(b []byte) []byte {
	return edit(b, "BEGIN CERTIFICATE-----\n", "BEGIN CERTIFICATE-----\n", "\n-----END", "\n-----END", "\n", "")
}

// write returns the name of a file with that content.
func write(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// newCluster returns a cluster with these objects. If err is not nil, it is the
// answer to each request.
func newCluster(config *rest.Config, err error, objects ...runtime.Object) *cluster.Cluster {
	clientset := fake.NewClientset(objects...)
	if err != nil {
		clientset.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
	}
	return &cluster.Cluster{Config: config, Client: clientset.CoreV1()}
}

func rootCA(bundle []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-root-ca.crt"},
		Data:       map[string]string{"ca.crt": string(bundle)},
	}
}

func hint(err error) string {
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		return hinter.Hint()
	}
	return ""
}

func TestCAIsThatOfJoiningNodes(t *testing.T) {
	ca, other := bundle(t, "single.pem"), bundle(t, "unrelated.pem")
	_, chain := pem.Decode(bundle(t, "bundle.pem")) // an intermediate CA and its root, good for a century
	comment := append([]byte("# CA\n"), ca...)
	const (
		rotated    = "a proxy is in front, or the CA was rotated"
		unreadable = "ConfigMap kube-root-ca.crt cannot be read"
		unverified = "the kubeconfig does not verify the server"
	)
	tests := map[string]struct {
		configMap  []byte // nil for none
		err        error  // of the API
		kubeconfig []byte
		insecure   bool
		want       []byte
		hash       string // else that of the bytes wanted
		note       string
	}{
		"kubeconfig the same":              {configMap: ca, kubeconfig: ca, want: ca},
		"kubeconfig trimmed":               {configMap: ca, kubeconfig: bytes.TrimSpace(ca), want: ca},
		"kubeconfig with CRLF":             {configMap: ca, kubeconfig: crlf(ca), want: ca},
		"kubeconfig without a CA":          {configMap: ca, want: ca},
		"kubeconfig re-wrapped":            {configMap: ca, kubeconfig: oneLine(ca), want: ca},
		"kubeconfig of a proxy or older":   {configMap: ca, kubeconfig: other, want: ca, note: rotated},
		"kubeconfig that verifies nothing": {configMap: ca, insecure: true, want: ca, note: unverified},
		"cluster's file with CRLF":         {configMap: crlf(ca), kubeconfig: ca, want: crlf(ca)},
		"custom CA chain, CRLF":            {configMap: crlf(chain), kubeconfig: chain, want: crlf(chain), hash: rootHash},

		"no ConfigMap":                     {kubeconfig: ca, want: ca, note: unreadable},
		"forbidden, kubeconfig trimmed":    {err: forbidden, kubeconfig: bytes.TrimSpace(ca), want: ca, note: unreadable},
		"forbidden, kubeconfig with CRLF":  {err: forbidden, kubeconfig: crlf(ca), want: ca, note: unreadable},
		"forbidden, kubeconfig re-wrapped": {err: forbidden, kubeconfig: oneLine(ca), want: ca, note: unreadable},
		"forbidden, empty lines":           {err: forbidden, kubeconfig: edit(chain, "-----BEGIN", "\n\n-----BEGIN"), want: chain, hash: rootHash, note: unreadable},
		"forbidden, a comment counts":      {err: forbidden, kubeconfig: crlf(comment), want: crlf(comment), note: unreadable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var objects []runtime.Object
			if test.configMap != nil {
				objects = append(objects, rootCA(test.configMap))
			}
			config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: test.kubeconfig, Insecure: test.insecure}}
			got, err := newCluster(config, test.err, objects...).CA(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if test.hash == "" {
				test.hash = sum(test.want)
			}
			if !bytes.Equal(got.Bundle, test.want) || got.Hash != test.hash {
				t.Errorf("hash %s of\n%q\nwant %s of\n%q", got.Hash, got.Bundle, test.hash, test.want)
			}
			if (got.Note != "") != (test.note != "") || !strings.Contains(got.Note, test.note) || len(got.Note) > 150 {
				t.Errorf("note %q, want %q", got.Note, test.note)
			}
		})
	}
}

func TestCAWithoutASourceHasAHint(t *testing.T) {
	garbage := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: []byte("garbage")}}
	for name, c := range map[string]*cluster.Cluster{
		"no ConfigMap":              newCluster(&rest.Config{}, nil),
		"garbage in the kubeconfig": newCluster(garbage, forbidden),
		"ConfigMap without ca.crt":  newCluster(&rest.Config{}, nil, rootCA(nil)),
		"garbage in the ConfigMap":  newCluster(&rest.Config{}, nil, rootCA([]byte("garbage"))),
	} {
		got, err := c.CA(t.Context())
		if err == nil || got.Hash != "" || !strings.Contains(err.Error(), "kube-root-ca.crt") || !strings.Contains(hint(err), "--ca-file") {
			t.Errorf("%s: hash %q, error %v, hint %q", name, got.Hash, err, hint(err))
		}
	}
}

func TestCAFallsBackIfForbiddenOrNotFoundOnly(t *testing.T) {
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: bundle(t, "single.pem")}}
	for _, want := range []error{apierrors.NewUnauthorized("no"), apierrors.NewInternalError(errors.New("no")), errors.New("connection refused")} {
		if got, err := newCluster(config, want).CA(t.Context()); !errors.Is(err, want) || got.Hash != "" {
			t.Errorf("hash %q, error %v, want %v", got.Hash, err, want)
		}
	}
}

func TestKubeconfigCAFromAFile(t *testing.T) {
	ca := bundle(t, "single.pem")
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: write(t, crlf(ca))}}
	if got, err := newCluster(config, nil).KubeconfigCA(); err != nil || got.Hash != sum(ca) {
		t.Errorf("hash %s (%v), want that of the repaired file", got.Hash, err)
	}
	// Data overrides a file, as in client-go.
	config.CAData = bundle(t, "unrelated.pem")
	if got, err := newCluster(config, nil).KubeconfigCA(); err != nil || got.Hash != sum(config.CAData) {
		t.Errorf("hash %s (%v), want that of the data", got.Hash, err)
	}
	config.CAData, config.CAFile = nil, config.CAFile+"-missing"
	if _, err := newCluster(config, nil).KubeconfigCA(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestReadCAFileTakesTheBytesAsTheyAre(t *testing.T) {
	odd := append([]byte("# CA\r\n"), bytes.TrimSpace(bundle(t, "single.pem"))...)
	if got, err := cluster.ReadCAFile(write(t, odd)); err != nil || got.Hash != sum(odd) || got.Note != "" {
		t.Errorf("hash %s, note %q (%v)", got.Hash, got.Note, err)
	}
	name := write(t, []byte("garbage"))
	if got, err := cluster.ReadCAFile(name); !errors.Is(err, token.ErrNoCertificates) || !strings.Contains(err.Error(), name) {
		t.Errorf("hash %s, error %v", got.Hash, err)
	}
	if _, err := cluster.ReadCAFile(name + "-missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestDistributionOfACA(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]supervisor.Distribution{
		"k3s-server-ca@1700000000":   supervisor.K3s,
		"rke2-server-ca@1700000000":  supervisor.RKE2,
		"other-server-ca@1700000000": supervisor.Other,
		"k3s.example.com":            supervisor.Other,
	} {
		cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: name}, key)
		if err != nil {
			t.Fatal(err)
		}
		ca := cluster.CA{Bundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})}
		if got := ca.Distribution(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := (cluster.CA{}).Distribution(); got != supervisor.Other {
		t.Errorf("no CA: %s", got)
	}
}
