package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// rootHash is the hash of the root in bundle.pem:
//
//	openssl x509 -outform DER | sha256sum
const rootHash = "b399cdc325a2a7ee1446a6f998f01069dfddc09c99a74dcacdcc130d2fd8c6e0"

// published is the ConfigMap with the CA, in the API.
const published = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"

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

// pages are the answers of a server, by host and path or by path.
type pages map[string]any

func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page := p[r.URL.Path]
	if page == nil {
		page = p[r.Host+r.URL.Path]
	}
	switch page := page.(type) {
	case []byte:
		_, _ = w.Write(page)
	case int:
		w.WriteHeader(page)
	case string:
		http.Redirect(w, r, page, http.StatusFound)
	case nil:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(page)
	}
}

// serve returns a cluster whose kubeconfig names the server of the pages, and verifies
// it by the CA in config, or by the server's own if that is "self".
func serve(t *testing.T, p pages, config rest.TLSClientConfig) *cluster.Cluster {
	t.Helper()
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	self := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if string(config.CAData) == "self" {
		config.CAData = self
	}
	if body, ok := p["/cacerts"].([]byte); ok && string(body) == "self" {
		p["/cacerts"] = self
	}
	client, err := corev1client.NewForConfig(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: self}})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster.Cluster{Config: &rest.Config{Host: "https://example.com:6443", Dial: dial, TLSClientConfig: config}, Client: client}
}

func rootCA(bundle []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		Data:     map[string]string{"ca.crt": string(bundle)},
	}
}

func TestCAIsThatOfJoiningNodes(t *testing.T) {
	t.Parallel()
	ca, other, self := bundle(t, "single.pem"), bundle(t, "unrelated.pem"), []byte("self")
	_, chain := pem.Decode(bundle(t, "bundle.pem")) // an intermediate CA and its root, good for a century
	const (
		rotated    = "a proxy is in front, or the CA was rotated"
		unreadable = "neither ConfigMap kube-root-ca.crt nor /cacerts can be read"
		unverified = "the kubeconfig does not verify the server"
	)
	plain := httptest.NewServer(pages{"/cacerts": other})
	defer plain.Close()
	rke2 := map[string]string{"gitVersion": "v1.31.1+rke2r1"}
	for name, test := range map[string]struct {
		pages      pages
		kubeconfig []byte
		insecure   bool
		want       []byte
		hash       string // else that of the bytes wanted
		note       string
	}{
		"kubeconfig re-wrapped":            {pages: pages{published: rootCA(ca)}, kubeconfig: oneLine(ca), want: ca},
		"kubeconfig without a CA":          {pages: pages{published: rootCA(ca)}, want: ca},
		"kubeconfig of a proxy or older":   {pages: pages{published: rootCA(ca)}, kubeconfig: other, want: ca, note: rotated},
		"kubeconfig that verifies nothing": {pages: pages{published: rootCA(ca)}, insecure: true, want: ca, note: unverified},
		"custom CA chain, CRLF":            {pages: pages{published: rootCA(crlf(chain))}, kubeconfig: chain, want: crlf(chain), hash: rootHash},
		"the ConfigMap goes before":        {pages: pages{published: rootCA(ca), "/cacerts": other}, kubeconfig: self, want: ca, note: rotated},

		"served, CA rotated since":       {pages: pages{published: 403, "/cacerts": crlf(chain)}, kubeconfig: self, want: crlf(chain), hash: rootHash, note: rotated},
		"served, no ConfigMap":           {pages: pages{published: 404, "/cacerts": ca}, kubeconfig: self, want: ca, note: rotated},
		"served by RKE2":                 {pages: pages{published: 403, "/version": rke2, "example.com:9345/cacerts": ca}, kubeconfig: self, want: ca, note: rotated},
		"by a server that is not proved": {pages: pages{published: 403, "/cacerts": other}, kubeconfig: ca, want: ca, note: unreadable},

		"no /cacerts, kubeconfig trimmed":   {pages: pages{published: 403, "/cacerts": 403}, kubeconfig: bytes.TrimSpace(ca), want: ca, note: unreadable},
		"no /cacerts, kubeconfig with CRLF": {pages: pages{published: 404}, kubeconfig: crlf(chain), want: chain, hash: rootHash, note: unreadable},
		"no /cacerts, a comment counts":     {pages: pages{published: 403}, kubeconfig: append([]byte("# CA\r\n"), ca...), want: append([]byte("# CA\r\n"), ca...), note: unreadable},
		"/cacerts is a page of a proxy":     {pages: pages{published: 403, "/cacerts": []byte("<html>")}, kubeconfig: self, note: unreadable},
		"/cacerts leads elsewhere":          {pages: pages{published: 403, "/cacerts": plain.URL + "/cacerts"}, kubeconfig: self, note: unreadable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, test.pages, rest.TLSClientConfig{CAData: test.kubeconfig, Insecure: test.insecure})
			got, err := c.CA(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				test.want = c.Config.CAData
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

func TestCAWithoutASourceIsAnError(t *testing.T) {
	t.Parallel()
	served := bundle(t, "single.pem")
	for name, c := range map[string]*cluster.Cluster{
		"no ConfigMap":              serve(t, pages{published: 404}, rest.TLSClientConfig{}),
		"a server nobody verifies":  serve(t, pages{published: 403, "/cacerts": served}, rest.TLSClientConfig{Insecure: true}),
		"garbage in the kubeconfig": serve(t, pages{published: 403, "/cacerts": served}, rest.TLSClientConfig{CAData: []byte("garbage")}),
		"garbage in the ConfigMap":  serve(t, pages{published: rootCA([]byte("garbage"))}, rest.TLSClientConfig{}),
	} {
		if got, err := c.CA(t.Context()); err == nil || got.Hash != "" || !strings.Contains(hint.Of(err), "--ca-file") {
			t.Errorf("%s: hash %q, error %v, hint %q", name, got.Hash, err, hint.Of(err))
		}
	}
	c := serve(t, pages{published: 401, "/cacerts": served}, rest.TLSClientConfig{CAData: served})
	if got, err := c.CA(t.Context()); !apierrors.IsUnauthorized(err) || got.Hash != "" {
		t.Errorf("hash %q, error %v, want no other source for a user who has to log in", got.Hash, err)
	}
}

func TestTheCAOfAProxyIsNotAskedFor(t *testing.T) {
	t.Parallel()
	c := serve(t, pages{published: 403, "/cacerts": bundle(t, "single.pem")}, rest.TLSClientConfig{CAData: []byte("self")})
	c.Config.Host += "/k8s/clusters/c-1"
	if got, err := c.CA(t.Context()); err != nil || got.Hash != sum(c.Config.CAData) || got.Note == "" {
		t.Errorf("hash %q, note %q, error %v, want the kubeconfig's", got.Hash, got.Note, err)
	}
}

func TestReadCAFileTakesTheBytesAsTheyAre(t *testing.T) {
	odd := append([]byte("# CA\r\n"), bytes.TrimSpace(bundle(t, "single.pem"))...)
	name := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(name, odd, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := cluster.ReadCAFile(name); err != nil || got.Hash != sum(odd) || got.Note != "" {
		t.Errorf("hash %s, note %q (%v)", got.Hash, got.Note, err)
	}
	if _, err := cluster.ReadCAFile(name + "-missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
