package cmd_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

const (
	secret   = "0123456789abcdef"
	given    = "abcdef." + secret
	bearer   = "the-bearer-token"
	password = "hunter2hunter2"
)

var login = &clientcmdapi.AuthInfo{Token: bearer}

// hook answers a request itself if it returns true.
type hook func(w http.ResponseWriter, r *http.Request) bool

// api is client-go's fake as an API server for Secrets, and the kubeconfig that
// leads to it. A hook is called before or after a request has its effect.
type api struct {
	*httptest.Server
	*fake.Clientset
	kubeconfig    string
	version       string
	before, after hook

	mu       sync.Mutex
	requests []string
}

func newAPI(t *testing.T, user *clientcmdapi.AuthInfo) *api {
	t.Helper()
	a := &api{Clientset: fake.NewSimpleClientset(), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"), version: "v1.31.1+k3s1"}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	if err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: a.URL, CertificateAuthorityData: a.ca()}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": user},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "c", AuthInfo: "u", Namespace: "default"}},
		CurrentContext: "test",
	}, a.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *api) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r.Method+" "+r.URL.RequestURI()+" "+r.UserAgent())
	if a.before != nil && a.before(w, r) {
		return
	}
	answer, err := a.serve(r)
	if a.after != nil && a.after(w, r) {
		return
	}
	reply(w, answer, err)
}

func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if refusal := (*apierrors.StatusError)(nil); errors.As(err, &refusal) {
		w.WriteHeader(int(refusal.ErrStatus.Code))
		answer = &refusal.ErrStatus
	}
	if object, ok := answer.(runtime.Object); ok {
		_ = scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion).Encode(object, w)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// serve does what the request asks for and returns the answer.
func (a *api) serve(r *http.Request) (answer any, err error) {
	body, _ := io.ReadAll(r.Body)
	secrets, name := a.CoreV1().Secrets("kube-system"), path.Base(r.URL.Path)
	switch {
	case name == "version":
		return map[string]string{"gitVersion": a.version}, nil
	case name == "kube-root-ca.crt":
		return &corev1.ConfigMap{Data: map[string]string{"ca.crt": string(a.ca())}}, nil
	case name == "nodes":
		return &corev1.NodeList{}, nil
	case r.Method == http.MethodPost:
		secret := &corev1.Secret{}
		if _, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, secret); err == nil && r.URL.Query().Get("dryRun") == "" {
			_, err = secrets.Create(r.Context(), secret, metav1.CreateOptions{})
		}
		return secret, err
	case name == "secrets":
		list, err := secrets.List(r.Context(), metav1.ListOptions{LabelSelector: r.URL.Query().Get("labelSelector")})
		list.ResourceVersion = "1"
		return list, err
	case r.Method == http.MethodPatch:
		return secrets.Patch(r.Context(), name, types.MergePatchType, body, metav1.PatchOptions{})
	case r.Method == http.MethodDelete:
		return &metav1.Status{}, secrets.Delete(r.Context(), name, metav1.DeleteOptions{})
	}
	return secrets.Get(r.Context(), name, metav1.GetOptions{})
}

// ids returns the ids of the tokens in the cluster.
func (a *api) ids() []string {
	secrets, err := a.CoreV1().Secrets("kube-system").List(context.Background(), metav1.ListOptions{})
	ids := []string{}
	for _, secret := range secrets.Items {
		ids = append(ids, strings.TrimPrefix(secret.Name, "bootstrap-token-"))
	}
	if slices.Sort(ids); err != nil {
		panic(err)
	}
	return ids
}

// put puts tokens into the cluster with the command line of create.
func (a *api) put(t *testing.T, ids ...string) *api {
	t.Helper()
	for _, id := range ids {
		if _, stderr, err := a.run(t.Context(), nil, "create "+id+"."+secret); err != nil {
			t.Fatal(stderr)
		}
	}
	return a
}

// writer is a standard output that calls a function.
type writer func(p []byte) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(p) }

// run runs a command line. A nil out is a buffer.
func (a *api) run(ctx context.Context, out writer, line string) (stdout, stderr string, err error) {
	return run(ctx, out, append(strings.Split(line, " "), "--kubeconfig", a.kubeconfig)...)
}

func run(ctx context.Context, out writer, args ...string) (stdout, stderr string, err error) {
	streams, in, outBuffer, errOut := genericiooptions.NewTestIOStreams()
	in.WriteString(given)
	if out != nil {
		streams.Out = out
	}
	err = cmd.Run(ctx, append([]string{"kubectl-k3s_token"}, args...), streams, v1alpha1.ClientVersion{Version: "v0.0.0-test"})
	return outBuffer.String(), errOut.String(), err
}

// wants runs a command line and fails the test if a stream lacks a text; an empty
// text wants an empty stream.
func (a *api) wants(t *testing.T, line, stdout, stderr string) {
	t.Helper()
	out, errOut, err := a.run(t.Context(), nil, line)
	for _, stream := range [][2]string{{out, stdout}, {errOut, stderr}} {
		if !strings.Contains(stream[0], stream[1]) || stream[1] == "" && stream[0] != "" {
			t.Errorf("%s: got\n%swant %q (%v)", line, stream[0], stream[1], err)
		}
	}
	if strings.Contains(errOut, secret) {
		t.Errorf("%s: stderr shows the secret", line)
	}
}
