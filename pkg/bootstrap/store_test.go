package bootstrap_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

var (
	_ bootstrap.Secrets        = corev1client.SecretInterface(nil)
	_ cache.WatcherWithContext = (*bootstrap.Store)(nil)
)

func TestGetReturnsOnlyTheTokenOfTheReference(t *testing.T) {
	c := newCluster(t, "abcdef")
	opaque := bootstrap.EncodeSecret(newToken("opaque"))
	opaque.Type = "Opaque"
	c.put(opaque)
	for in, wantErr := range map[string]func(error) bool{
		"abcdef":               nil,
		"abcdef." + secretPart: nil,
		"K10" + caHash + "::abcdef." + secretPart: nil,
		"secret/bootstrap-token-abcdef":           nil,
		"abcdef.ffffffffffffffff":                 func(err error) bool { return errors.Is(err, bootstrap.ErrOtherSecret) },
		"ghijkl":                                  apierrors.IsNotFound,
		"opaque":                                  func(err error) bool { return strings.Contains(err.Error(), `of type "Opaque", not a bootstrap token`) },
		"opaque." + secretPart:                    func(err error) bool { return strings.Contains(err.Error(), "not a bootstrap token") },
	} {
		got, err := c.Get(t.Context(), ref(t, in))
		switch {
		case wantErr == nil && (err != nil || got.ID != "abcdef"):
			t.Errorf("%v: error %v", ref(t, in), err)
		case wantErr != nil && (err == nil || got != nil || !wantErr(err)):
			t.Errorf("%v: token %v, error %v", ref(t, in), got, err)
		}
	}
}

func TestListReturnsBootstrapTokensOnly(t *testing.T) {
	c := newCluster(t, "abcdef")
	opaque, malformed := bootstrap.EncodeSecret(newToken("opaque")), bootstrap.EncodeSecret(newToken("ghijkl"))
	opaque.Type, malformed.Data = "Opaque", nil
	labelled := bootstrap.EncodeSecret(newToken("mnopqr"))
	labelled.Labels = map[string]string{"site": "north"}
	for _, secret := range []*corev1.Secret{opaque, malformed, labelled} {
		c.put(secret)
	}
	c.wantTokens(t, "abcdef", "ghijkl", "mnopqr")
	options := c.Actions()[0].(clienttesting.ListActionImpl).ListOptions
	if options.FieldSelector != "type=bootstrap.kubernetes.io/token" || options.Limit != 0 {
		t.Errorf("options %v, want a field selector and no limit", options)
	}
	list, err := c.List(t.Context(), "site=north")
	if err != nil || len(list.Items) != 1 || list.Items[0].ID != "mnopqr" || list.ResourceVersion == "" {
		t.Errorf("list %v (%v), want the token with the label", list, err)
	}
}

func TestWatchSelectsBootstrapTokens(t *testing.T) {
	c := newCluster(t)
	watcher, err := c.WatchWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	options := c.Actions()[0].(clienttesting.WatchActionImpl).ListOptions
	if options.FieldSelector != "type=bootstrap.kubernetes.io/token" || options.ResourceVersion != "1" {
		t.Errorf("options %v, want the field selector and the given resource version", options)
	}
}

// newHTTPStore returns a store whose client talks to the handler.
func newHTTPStore(t *testing.T, handler http.HandlerFunc) *bootstrap.Store {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newStoreAt(t, server.URL)
}

func newStoreAt(t *testing.T, url string) *bootstrap.Store {
	t.Helper()
	client, err := corev1client.NewForConfig(&rest.Config{Host: url, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return bootstrap.NewStore(client.Secrets(bootstrap.Namespace))
}

// requests are the methods of a Store that make one.
var requests = map[string]func(context.Context, *bootstrap.Store) error{
	"create": func(ctx context.Context, s *bootstrap.Store) error { return s.Create(ctx, newToken("abcdef")) },
	"delete": func(ctx context.Context, s *bootstrap.Store) error {
		return s.Delete(ctx, bootstrap.FromSecret(stored("", "")))
	},
	"extend": func(ctx context.Context, s *bootstrap.Store) error {
		_, err := s.Extend(ctx, bootstrap.FromSecret(stored("", "")), now)
		return err
	},
	"get": func(ctx context.Context, s *bootstrap.Store) error {
		_, err := s.Get(ctx, bootstrap.Ref{SecretName: "bootstrap-token-abcdef"})
		return err
	},
	"list": func(ctx context.Context, s *bootstrap.Store) error {
		_, err := s.List(ctx, "")
		return err
	},
}

func TestAnAnswerOfSomethingElseIsAnError(t *testing.T) {
	const object = `{"apiVersion":"v1","metadata":{"name":"other","resourceVersion":"1"},"kind":`
	for name, page := range map[string]struct{ contentType, body string }{
		"HTML":             {"text/html", "<html>Blocked</html>"},
		"an empty object":  {"application/json", "{}"},
		"another kind":     {"application/json", object + `"PodList"}`},
		"a status":         {"application/json", `{"kind":"Status","apiVersion":"v1","status":"Success"}`},
		"other API object": {"application/json", object + `"Secret"}`},
	} {
		store := newHTTPStore(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", page.contentType)
			_, _ = w.Write([]byte(page.body))
		})
		for verb, request := range requests {
			isRead := verb == "get" || verb == "list"
			err := request(t.Context(), store)
			if verb != "delete" && (err == nil || isUncertain(err) == isRead || strings.Contains(err.Error(), "bootstrap token")) { // delete discards the answer
				t.Errorf("%s answered with %s: error %T %v, want one that is uncertain after a change", verb, name, err, err)
			}
		}
	}
}
