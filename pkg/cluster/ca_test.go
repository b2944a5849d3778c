package cluster_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
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
func bundle(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "token", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sum(s string) string {
	digest := sha256.Sum256([]byte(s))
	return hex.EncodeToString(digest[:])
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// rootCA returns the ConfigMap with a bundle.
func rootCA(bundle string) string {
	text, _ := json.Marshal(corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: map[string]string{"ca.crt": bundle},
	})
	return string(text)
}

// pages are the answers of a server by path: a text, or a URL that it leads to.
type pages map[string]string

func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page, found := p[r.URL.Path]
	switch {
	case r.Header.Get("Authorization") != "":
		http.Error(w, "credentials for a page that needs none", http.StatusBadRequest)
	case !found:
		http.NotFound(w, r)
	case strings.HasPrefix(page, "http:"):
		http.Redirect(w, r, page, http.StatusFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, page)
	}
}

// serve returns a cluster with the pages, and the certificate of its server.
func serve(t *testing.T, p pages) (c *cluster.Cluster, certificate string) {
	t.Helper()
	server := httptest.NewTLSServer(p)
	t.Cleanup(server.Close)
	client, err := corev1client.NewForConfig(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &cluster.Cluster{Config: &rest.Config{Host: server.URL, BearerToken: "user"}, Client: client}, string(own)
}

func TestCAIsThatOfJoiningNodes(t *testing.T) {
	ca, other := bundle(t, "single.pem"), bundle(t, "unrelated.pem")
	_, rest := pem.Decode([]byte(bundle(t, "bundle.pem")))
	chain := string(rest)    // an intermediate CA and its root, good for a century
	_, self := serve(t, nil) // all servers of httptest have one certificate
	const (
		rotated    = "a proxy is in front, or the CA was rotated"
		unreadable = "neither ConfigMap kube-root-ca.crt nor /cacerts can be read"
	)
	commented := "# CA\r\n" + ca
	plain := httptest.NewServer(pages{"/cacerts": other})
	defer plain.Close()
	for name, test := range map[string]struct {
		pages      pages
		kubeconfig string
		want, hash string // of the bytes wanted, if empty
		note       string
	}{
		"the kubeconfig trimmed":         {pages{published: rootCA(ca)}, strings.TrimSpace(ca), ca, "", ""},
		"no CA in the kubeconfig":        {pages{published: rootCA(ca)}, "", ca, "", ""},
		"of a proxy or older":            {pages{published: rootCA(ca)}, other, ca, "", rotated},
		"a custom CA chain, CRLF":        {pages{published: rootCA(crlf(chain))}, chain, crlf(chain), rootHash, ""},
		"served, CA rotated since":       {pages{"/cacerts": crlf(chain)}, self, crlf(chain), rootHash, rotated},
		"by a server that is not proved": {pages{"/cacerts": other}, ca, ca, "", unreadable},
		"no /cacerts, CRLF":              {nil, crlf(chain), chain, rootHash, unreadable},
		"no /cacerts, a comment counts":  {nil, commented, commented, "", unreadable},
		"/cacerts is a page of a proxy":  {pages{"/cacerts": "<html>"}, self, self, "", unreadable},
		"/cacerts leads elsewhere":       {pages{"/cacerts": plain.URL + "/cacerts"}, self, self, "", unreadable},
	} {
		c, _ := serve(t, test.pages)
		c.Config.CAData = []byte(test.kubeconfig)
		got, err := c.CA(t.Context())
		if test.hash == "" {
			test.hash = sum(test.want)
		}
		if err != nil || !bytes.Equal(got.Bundle, []byte(test.want)) || got.Hash != test.hash {
			t.Errorf("%s: hash %s (%v) of\n%q\nwant %s of\n%q", name, got.Hash, err, got.Bundle, test.hash, test.want)
		}
		if (got.Note != "") != (test.note != "") || !strings.Contains(got.Note, test.note) || len(got.Note) > 150 {
			t.Errorf("%s: note %q, want %q", name, got.Note, test.note)
		}
	}
}

func TestCAWithoutASourceIsAnError(t *testing.T) {
	for name, test := range map[string]struct {
		pages    pages
		insecure bool
	}{
		"no ConfigMap":             {nil, false},
		"a server nobody verifies": {pages{"/cacerts": bundle(t, "single.pem")}, true},
		"garbage in the ConfigMap": {pages{published: rootCA("garbage")}, false},
	} {
		c, _ := serve(t, test.pages)
		c.Config.Insecure = test.insecure
		if got, err := c.CA(t.Context()); err == nil || got.Hash != "" || !strings.Contains(hint.Of(err), "--ca-file") {
			t.Errorf("%s: hash %q, error %v, hint %q", name, got.Hash, err, hint.Of(err))
		}
	}
}

func TestTheCAOfAProxyIsNotAskedFor(t *testing.T) {
	c, self := serve(t, pages{"/cacerts": bundle(t, "single.pem"), "/k8s/clusters/c-1/cacerts": bundle(t, "single.pem")})
	c.Config.CAData = []byte(self)
	c.Config.Host += "/k8s/clusters/c-1"
	if got, err := c.CA(t.Context()); err != nil || got.Hash != sum(self) || got.Note == "" {
		t.Errorf("hash %q, note %q, error %v, want the kubeconfig's", got.Hash, got.Note, err)
	}
}
