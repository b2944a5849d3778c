package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
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

func crlf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }

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
	)
	commented := append([]byte("# CA\r\n"), ca...)
	plain := httptest.NewServer(pages{"/cacerts": other})
	defer plain.Close()
	rke2 := map[string]string{"gitVersion": "v1.31.1+rke2r1"}
	for name, test := range map[string]struct {
		pages      pages
		kubeconfig []byte
		want       []byte // nil for the kubeconfig's
		hash       string // else that of the bytes wanted
		note       string
	}{
		"the kubeconfig trimmed":         {pages{published: rootCA(ca)}, bytes.TrimSpace(ca), ca, "", ""},
		"no CA in the kubeconfig":        {pages{published: rootCA(ca)}, nil, ca, "", ""},
		"of a proxy or older":            {pages{published: rootCA(ca)}, other, ca, "", rotated},
		"a custom CA chain, CRLF":        {pages{published: rootCA(crlf(chain))}, chain, crlf(chain), rootHash, ""},
		"served, CA rotated since":       {pages{published: 403, "/cacerts": crlf(chain)}, self, crlf(chain), rootHash, rotated},
		"served by RKE2":                 {pages{published: 403, "/version": rke2, "example.com:9345/cacerts": ca}, self, ca, "", rotated},
		"by a server that is not proved": {pages{published: 403, "/cacerts": other}, ca, ca, "", unreadable},
		"no /cacerts, CRLF":              {pages{published: 404}, crlf(chain), chain, rootHash, unreadable},
		"no /cacerts, a comment counts":  {pages{published: 403}, commented, commented, "", unreadable},
		"/cacerts is a page of a proxy":  {pages{published: 403, "/cacerts": []byte("<html>")}, self, nil, "", unreadable},
		"/cacerts leads elsewhere":       {pages{published: 403, "/cacerts": plain.URL + "/cacerts"}, self, nil, "", unreadable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, test.pages, rest.TLSClientConfig{CAData: test.kubeconfig})
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
		"no ConfigMap":             serve(t, pages{published: 404}, rest.TLSClientConfig{}),
		"a server nobody verifies": serve(t, pages{published: 403, "/cacerts": served}, rest.TLSClientConfig{Insecure: true}),
		"garbage in the ConfigMap": serve(t, pages{published: rootCA([]byte("garbage"))}, rest.TLSClientConfig{}),
	} {
		if got, err := c.CA(t.Context()); err == nil || got.Hash != "" || !strings.Contains(hint.Of(err), "--ca-file") {
			t.Errorf("%s: hash %q, error %v, hint %q", name, got.Hash, err, hint.Of(err))
		}
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
