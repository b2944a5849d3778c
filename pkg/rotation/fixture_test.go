package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	hash      = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260" // of single.pem
	otherHash = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	current   = "0d5e2f7a91c3b4e860d5e2f7a91c3b4e"
	strong    = "x7Kq2mVf9ZtLw4Rb"
	longAgo   = "2020-01-31T12:00:00Z"
)

var (
	errDenied  = errors.New("denied")
	configMaps = corev1.SchemeGroupVersion.WithResource("configmaps")
)

// server is a K3s server that has proved who it is.
type server struct {
	remote  netip.Addr
	refusal error                                                 // of the current token
	rotate  func(ctx context.Context) (supervisor.Outcome, error) // nil rotates
	told    []string                                              // the new tokens
}

func (s *server) CAHash() string     { return hash }
func (s *server) Remote() netip.Addr { return s.remote }

func (s *server) Accepts(context.Context, supervisor.Role) (supervisor.Verdict, error) {
	return "", s.refusal
}

func (s *server) Rotate(ctx context.Context, next token.Secret) (supervisor.Outcome, error) {
	if s.told = append(s.told, next.Reveal()); s.rotate == nil {
		return supervisor.Rotated, nil
	}
	return s.rotate(ctx)
}

// site is a cluster of K3s servers, its API, and a rotation that passes the
// preflight.
type site struct {
	rotation.Rotation
	api      *fake.Clientset
	servers  []*server
	warnings []string
}

// newSite returns a cluster of servers. Its API has no nodes.
func newSite(t *testing.T, servers int) *site {
	t.Helper()
	bundle, err := os.ReadFile("../token/testdata/single.pem")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{api: fake.NewSimpleClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-root-ca.crt"},
		Data:       map[string]string{"ca.crt": string(bundle)},
	})}
	s.api.PrependReactor("*", "configmaps", dryRun)
	s.Cluster = &cluster.Cluster{Config: &rest.Config{}, Client: s.api.CoreV1()}
	s.Current = token.Token{CAHash: hash, User: token.UserServer, Secret: current}
	s.New = token.Token{User: token.UserServer, Secret: strong}
	s.Warnf = func(format string, args ...any) { s.warnings = append(s.warnings, fmt.Sprintf(format, args...)) }
	for i := range servers {
		url, _ := supervisor.ParseURL(fmt.Sprintf("https://10.0.0.%d:6443", i+1))
		s.Servers = append(s.Servers, url)
		s.servers = append(s.servers, &server{})
	}
	s.Open = func(_ context.Context, url supervisor.URL, _ token.Token) (rotation.Session, error) {
		return s.servers[slices.Index(s.Servers, url)], nil
	}
	return s
}

// dryRun has a dry run change nothing, unlike client-go's fake.
func dryRun(action clienttesting.Action) (bool, runtime.Object, error) {
	switch action := action.(type) {
	case clienttesting.CreateActionImpl:
		if action.CreateOptions.DryRun == nil {
			action.Object.(*corev1.ConfigMap).ResourceVersion = "1"
		}
		return action.CreateOptions.DryRun != nil, action.Object, nil
	case clienttesting.UpdateActionImpl:
		return action.UpdateOptions.DryRun != nil, action.Object, nil
	}
	return false, nil, nil
}

// refuse has the API refuse requests for an object. A reactor that was added
// later comes first.
func (s *site) refuse(verb, resource, name string, err error) {
	s.api.PrependReactor(verb, resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
		get, ok := action.(clienttesting.GetAction)
		return !ok || get.GetName() == name, nil, err
	})
}

// record is the data of the record; empty if there is none.
func (s *site) record() map[string]string {
	stored, err := s.api.Tracker().Get(configMaps, "kube-system", rotation.RecordName)
	if err != nil {
		return nil
	}
	return stored.(*corev1.ConfigMap).Data
}

// preflight returns a rotation that has passed the preflight.
func (s *site) preflight(t *testing.T) *rotation.Rotation {
	t.Helper()
	r := s.Rotation // one of several
	if err := r.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &r
}

// leave puts the record of another rotation into the cluster.
func (s *site) leave(t *testing.T, state, server string) {
	t.Helper()
	record := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: rotation.RecordName, UID: "uid", ResourceVersion: "7"},
		Data:       map[string]string{"state": state, "server": server, "started": longAgo},
	}
	if err := s.api.Tracker().Add(record); err != nil {
		t.Fatal(err)
	}
}

// wantError fails the test unless err has the text, and its hint the advice.
func wantError(t *testing.T, err error, text, advice string) {
	t.Helper()
	if got := hint.Of(err); got == "" || !strings.Contains(err.Error(), text) || !strings.Contains(got, advice) {
		t.Errorf("got %v (%s), want %q and the hint %q", err, got, text, advice)
	}
}
