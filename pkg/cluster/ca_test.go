package cluster_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

var now = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// pem returns a bundle of pkg/token's testdata.
func pem(t *testing.T, name string) []byte {
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

// fail has the API answer the request for the ConfigMap with an error.
func fail(err *apierrors.StatusError) apitest.Hook {
	return func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		apitest.Fail(w, req, err)
		return true
	}
}

var (
	configMaps = schema.GroupResource{Resource: "configmaps"}
	forbidden  = apierrors.NewForbidden(configMaps, "kube-root-ca.crt", errors.New("no"))
)

// TestFetchCA is the table of decision 6 of the design.
func TestFetchCA(t *testing.T) {
	ca, other, comment := pem(t, "single.pem"), pem(t, "unrelated.pem"), append([]byte("# CA\n"), pem(t, "single.pem")...)
	const (
		proxy    = "points at a proxy or load balancer"
		noRead   = "cannot be read"
		insecure = "insecure-skip-tls-verify"
	)
	tests := map[string]struct {
		configMap  []byte // nil for NotFound
		hook       apitest.Hook
		kubeconfig []byte
		insecure   bool
		want       []byte
		note       string
	}{
		"both the same":                                  {configMap: ca, kubeconfig: ca, want: ca},
		"kubeconfig trimmed":                             {configMap: ca, kubeconfig: bytes.TrimSpace(ca), want: ca},
		"kubeconfig with CRLF":                           {configMap: ca, kubeconfig: crlf(ca), want: ca},
		"cluster's own file is odd":                      {configMap: crlf(ca), kubeconfig: ca, want: crlf(ca)},
		"cluster's own file has a comment":               {configMap: comment, kubeconfig: ca, want: comment},
		"kubeconfig has a proxy's":                       {configMap: ca, kubeconfig: other, want: ca, note: proxy},
		"kubeconfig has none: a public CA":               {configMap: ca, want: ca},
		"kubeconfig verifies nothing":                    {configMap: ca, insecure: true, want: ca, note: insecure},
		"no ConfigMap":                                   {kubeconfig: ca, want: ca, note: noRead},
		"ConfigMap forbidden":                            {configMap: other, hook: fail(forbidden), kubeconfig: ca, want: ca, note: noRead},
		"ConfigMap forbidden, kubeconfig trimmed":        {hook: fail(forbidden), kubeconfig: bytes.TrimSpace(ca), want: ca, note: noRead},
		"ConfigMap forbidden, kubeconfig with CRLF":      {hook: fail(forbidden), kubeconfig: crlf(ca), want: ca, note: noRead},
		"ConfigMap forbidden, kubeconfig with a comment": {hook: fail(forbidden), kubeconfig: comment, want: comment, note: noRead},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			api := apitest.New(t)
			api.Handle(test.hook)
			if test.configMap != nil {
				api.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(test.configMap)})
			}
			config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: test.kubeconfig, Insecure: test.insecure}}
			got, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), config, clock)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bundle, test.want) || got.Hash != sum(test.want) {
				t.Errorf("hash %s of\n%q\nwant that of\n%q", got.Hash, got.Bundle, test.want)
			}
			if (got.Note != "") != (test.note != "") || !strings.Contains(got.Note, test.note) {
				t.Errorf("note %q, want %q", got.Note, test.note)
			}
			if requests := api.Requests(); len(requests) != 1 || requests[0].String() != "GET configmaps/kube-root-ca.crt" {
				t.Errorf("requests %v", requests)
			}
		})
	}
}

func TestFetchCAHashesTheRootOfABundle(t *testing.T) {
	api := apitest.New(t)
	bundle := pem(t, "bundle.pem")
	api.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(bundle)})
	got, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), &rest.Config{}, clock)
	if err != nil {
		t.Fatal(err)
	}
	want, err := token.CAHash(bundle, now)
	if err != nil || got.Hash != want || got.Hash == sum(bundle) {
		t.Errorf("hash %s, want the root's, %s (%v)", got.Hash, want, err)
	}
	// The leaf ends with 2029: the clock counts.
	if later, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), &rest.Config{}, func() time.Time { return now.AddDate(10, 0, 0) }); err != nil || later.Hash != sum(bundle) {
		t.Errorf("ten years on the hash is %s (%v), want that of the bytes", later.Hash, err)
	}
}

func TestFetchCAReadsTheKubeconfigsFile(t *testing.T) {
	api := apitest.New(t)
	api.Handle(fail(forbidden))
	ca := pem(t, "single.pem")
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, crlf(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: file}}
	got, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), config, clock)
	if err != nil || !bytes.Equal(got.Bundle, ca) {
		t.Errorf("bundle %q (%v)", got.Bundle, err)
	}
	// Data wins over a file, as in client-go.
	config.CAData = pem(t, "unrelated.pem")
	got, err = cluster.FetchCA(t.Context(), api.ConfigMaps(t), config, clock)
	if err != nil || !bytes.Equal(got.Bundle, config.CAData) {
		t.Errorf("bundle %q (%v)", got.Bundle, err)
	}
}

func TestFetchCAFailsWithTheKubeconfigsFile(t *testing.T) {
	api := apitest.New(t)
	missing := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(t.TempDir(), "missing")}}
	if _, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), missing, clock); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "certificate-authority") {
		t.Errorf("error %v", err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: large}}, clock); err == nil || !strings.Contains(err.Error(), "larger than any CA bundle") {
		t.Errorf("error %v", err)
	}
}

func TestFetchCAWithoutASource(t *testing.T) {
	for name, test := range map[string]struct {
		hook      apitest.Hook
		configMap map[string]string
		reason    func(error) bool
	}{
		"ConfigMap not found": {nil, nil, apierrors.IsNotFound},
		"ConfigMap forbidden": {fail(forbidden), nil, apierrors.IsForbidden},
		"ConfigMap without the key": {nil, map[string]string{"other": "data"},
			func(err error) bool { return strings.Contains(err.Error(), "has no ca.crt") }},
		"ConfigMap with garbage": {nil, map[string]string{"ca.crt": "garbage"},
			func(err error) bool { return errors.Is(err, token.ErrNoCertificates) }},
	} {
		t.Run(name, func(t *testing.T) {
			api := apitest.New(t)
			api.Handle(test.hook)
			if test.configMap != nil {
				api.SetConfigMap("kube-root-ca.crt", test.configMap)
			}
			_, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), &rest.Config{}, clock)
			var noCA *cluster.NoCAError
			if !errors.As(err, &noCA) || !test.reason(noCA.ConfigMap) {
				t.Fatalf("error %v, want a *NoCAError with its reason", err)
			}
			if !strings.Contains(err.Error(), "--ca-file") {
				t.Errorf("error %q does not say what to do", err)
			}
		})
	}
}

func TestFetchCAGoesOnWithTheKubeconfigWhereTheConfigMapIsMalformed(t *testing.T) {
	ca := pem(t, "single.pem")
	for name, data := range map[string]map[string]string{
		"no key":  {"other": "data"},
		"garbage": {"ca.crt": "garbage"},
		"empty":   {"ca.crt": ""},
	} {
		api := apitest.New(t)
		api.SetConfigMap("kube-root-ca.crt", data)
		config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: bytes.TrimSpace(ca)}}
		got, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), config, clock)
		if err != nil || !bytes.Equal(got.Bundle, ca) || !strings.Contains(got.Note, "the CA hash is that of the kubeconfig's certificates") {
			t.Errorf("%s: note %q, bundle %q (%v)", name, got.Note, got.Bundle, err)
		}
	}
}

func TestFetchCAReturnsWhatIsNotAPlainNo(t *testing.T) {
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: pem(t, "single.pem")}}
	for name, test := range map[string]struct {
		hook apitest.Hook
		want func(error) bool
	}{
		"unauthorized":   {fail(apierrors.NewUnauthorized("no")), apierrors.IsUnauthorized},
		"internal error": {fail(apierrors.NewInternalError(errors.New("no"))), apierrors.IsInternalError},
		"timeout":        {fail(apierrors.NewTimeoutError("no", 0)), apierrors.IsTimeout},
	} {
		api := apitest.New(t)
		api.Handle(test.hook)
		got, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), config, clock)
		var noCA *cluster.NoCAError
		if err == nil || !test.want(err) || errors.As(err, &noCA) || got.Hash != "" {
			t.Errorf("%s: hash %q, error %T %v", name, got.Hash, err, err)
		}
	}
	api := apitest.New(t)
	api.Close()
	if _, err := cluster.FetchCA(t.Context(), api.ConfigMaps(t), config, clock); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: error %v", err)
	}
}

func TestReadCAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ca.crt")
	odd := append([]byte("# CA\r\n"), bytes.TrimSpace(pem(t, "single.pem"))...)
	if err := os.WriteFile(name, odd, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := cluster.ReadCAFile(name, now)
	if err != nil || !bytes.Equal(got.Bundle, odd) || got.Hash != sum(odd) || got.Note != "" {
		t.Errorf("hash %s, note %q (%v), want the bytes as they are", got.Hash, got.Note, err)
	}
}

func TestReadCAFileNamesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "missing"):         "no such file",
		dir:                                   "is a directory",
		write("empty", nil):                   "no PEM certificate found",
		write("garbage", []byte("x")):         "no PEM certificate found",
		write("large", make([]byte, 1<<20+1)): "larger than any CA bundle",
		write("largest", make([]byte, 1<<20)): "no PEM certificate found",
		write("broken", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")): "certificate 1 of the bundle",
	} {
		got, err := cluster.ReadCAFile(name, now)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) || got.Hash != "" {
			t.Errorf("%s: hash %q, error %v, want one that says %q and the name", filepath.Base(name), got.Hash, err, want)
		}
	}
}

func TestDistributionOfACA(t *testing.T) {
	for name, want := range map[string]cluster.Distribution{
		"single.pem":    cluster.K3s,
		"unrelated.pem": cluster.Other,
	} {
		if got := (cluster.CA{Bundle: pem(t, name)}).Distribution(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := (cluster.CA{}).Distribution(); got != cluster.Other {
		t.Errorf("no CA: %s", got)
	}
}
