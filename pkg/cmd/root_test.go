package cmd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/fake"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"
)

const envPeer = "K3S_TOKEN_TEST_PEER"

// TestMain has the test binary itself be a login program, which says hello to its
// peer and then waits for it.
func TestMain(m *testing.M) {
	if peer := os.Getenv(envPeer); peer != "" {
		if conn, err := net.Dial("tcp", peer); err == nil { //nolint:noctx // a program that hangs
			_, _ = io.Copy(io.Discard, conn)
		}
		os.Exit(1)
	}
	_, _ = os.Unsetenv("K3S_TOKEN"), os.Unsetenv("K3S_URL")
	os.Exit(m.Run())
}

func TestAnAnswerOfSomethingInBetweenIsAnError(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s is asked elsewhere", r.Method) }))
	t.Cleanup(elsewhere.Close)
	answers := map[string]http.HandlerFunc{
		"moved":  http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect).ServeHTTP,
		"a page": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>sign in</html>") },
		"JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"error": "sign in"}`)
		},
	}
	for line, method := range map[string]string{
		"list": http.MethodGet, "extend abcdef --ttl 48h": http.MethodPatch, "delete abcdef": http.MethodDelete,
	} {
		for name, answer := range answers {
			t.Run(line+" "+name, func(t *testing.T) {
				t.Parallel()
				a := newAPI(t, login).put(t, "abcdef")
				a.before = func(w http.ResponseWriter, r *http.Request) bool {
					spoiled := r.Method == method && strings.Contains(r.URL.Path, "/secrets")
					if spoiled {
						answer(w, r)
					}
					return spoiled
				}
				a.wants(t, line, "", " a Kubernetes API server\nhint: check ")
			})
		}
	}
}

// A proxy may write the JSON anew.
func TestAnswersAreReadInAnyLayout(t *testing.T) {
	t.Parallel()
	a := newAPI(t, login)
	a.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"SecretList\",\n  \"items\": []\n}")
		return true
	}
	a.wants(t, "list", "", "No bootstrap tokens found.\n")
}

func TestAnInterruptEndsTheWaitForALoginProgram(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"list", "create"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
		if err != nil {
			t.Fatal(err)
		}
		a := newAPI(t, &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
			Command: program, Env: []clientcmdapi.ExecEnvVar{{Name: envPeer, Value: listener.Addr().String()}},
		}})
		ctx, interrupt := context.WithCancel(t.Context())
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				defer conn.Close() //nolint:errcheck // ends the program
			}
			interrupt()
			select {
			case <-t.Context().Done():
			case <-time.After(20 * time.Second): // the interrupt is not heard
			}
		}()
		_, stderr, err := a.run(ctx, nil, line)
		if err == nil || !strings.HasPrefix(stderr, "error: interrupted") || len(a.requests) > 0 {
			t.Errorf("%s: got %v, %q, %v", line, err, stderr, a.requests)
		}
		_ = listener.Close()
	}
}

func TestAnExpiredClientCertificateIsExplained(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2020, 1, 31, 0, 0, 0, 0, time.UTC)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, &clientcmdapi.AuthInfo{ClientKeyData: keyPEM, ClientCertificateData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})})
	a.before = func(w http.ResponseWriter, _ *http.Request) bool {
		reply(w, nil, apierrors.NewUnauthorized("Unauthorized"))
		return true
	}
	a.wants(t, "create --count 3 --ca-file "+caFile, "", "Warning: the kubeconfig's client certificate expired on 2020-01-31; restart K3s, which renews it, and copy k3s.yaml again\n"+
		"error: You must be logged in to the server (the server has asked for the client to provide credentials)\n")
}

func TestAPlainConnectionSuchAsThatOfKubectlProxyWorks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&api{Clientset: fake.NewSimpleClientset(), version: "v1.31.1+k3s1\x1b"})
	defer server.Close()
	empty := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := run(t.Context(), nil, "version", "--server", server.URL, "--kubeconfig", empty)
	if want := "Client Version: v0.0.0-test\nServer Version: v1.31.1+k3s1^[ (k3s)\n"; err != nil || stdout != want || http.DefaultClient.Transport != nil {
		t.Errorf("got %v, %q, %q", err, stdout, stderr)
	}
}
