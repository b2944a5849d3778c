// Package apitest plays the Kubernetes API for tests of what is sent to it. It
// speaks protobuf and JSON over HTTP, and does with Secrets what the real one
// does: field selectors, chunks, preconditions, resource versions, dry runs.
// client-go's own fakes do none of that.
package apitest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/kube"
)

// SecretsPath is where the Secrets of kube-system are.
const SecretsPath = "/api/v1/namespaces/kube-system/secrets"

// Request is a request that the server has got.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Header http.Header
	Body   []byte
}

// Writes tells whether the request would change something.
func (r Request) Writes() bool {
	return r.Method != http.MethodGet && r.Path != ReviewsPath && !r.DryRun()
}

// DryRun tells whether the request asks for a dry run. A DELETE does so in its
// body, others in their query.
func (r Request) DryRun() bool {
	options := &metav1.DeleteOptions{}
	if r.Method == http.MethodDelete && decode(r.Body, options) == nil {
		return slices.Contains(options.DryRun, metav1.DryRunAll)
	}
	return r.Query.Get("dryRun") == metav1.DryRunAll
}

// String is the method and the path below the namespace.
func (r Request) String() string {
	return r.Method + " " + strings.TrimPrefix(r.Path, "/api/v1/namespaces/kube-system/")
}

// Decode reads the object in the body into obj.
func (r Request) Decode(t testing.TB, obj runtime.Object) {
	t.Helper()
	if err := decode(r.Body, obj); err != nil {
		t.Fatalf("%s: the body is no %T: %v", r, obj, err)
	}
}

// Server plays the API.
type Server struct {
	*httptest.Server
	// Created is the time that new Secrets get.
	Created time.Time

	mu         sync.Mutex
	secrets    map[string]*corev1.Secret
	configMaps map[string]*corev1.ConfigMap
	nodes      []corev1.Node
	gitVersion string
	revision   int
	requests   []Request
	clock      func() time.Time
	inFlight   int
	mostAtOnce int
	hook       Hook
}

// A Hook sees each request before the server does. It answers the request
// itself and returns true, or leaves it to the server.
type Hook func(w http.ResponseWriter, r *http.Request, req Request) bool

// New starts a server on the loopback address, over plain HTTP, and stops it
// when the test is over.
func New(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// NewTLS is New over HTTPS.
func NewTLS(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func newServer() *Server {
	s := &Server{
		Created:    time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		secrets:    map[string]*corev1.Secret{},
		configMaps: map[string]*corev1.ConfigMap{},
		gitVersion: "v1.31.1+k3s1",
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	// What a test does to connections is not worth a line.
	s.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

// Config returns how a client reaches the server.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: s.URL, QPS: -1} }

// Secrets returns a client for the Secrets in kube-system.
func (s *Server) Secrets(t testing.TB) bootstrap.Secrets {
	t.Helper()
	return s.Client(t).Secrets(metav1.NamespaceSystem)
}

// ConfigMaps returns a client for the ConfigMaps in kube-system.
func (s *Server) ConfigMaps(t testing.TB) cluster.ConfigMaps {
	t.Helper()
	return s.Client(t).ConfigMaps(metav1.NamespaceSystem)
}

// Client returns a client of the server.
func (s *Server) Client(t testing.TB) *kube.Client {
	t.Helper()
	transport, err := rest.HTTPClientFor(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.NewClient(s.Config(), transport)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Handle has a hook see the requests from now on; nil for none.
func (s *Server) Handle(hook Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// SetClock has the server date its answers by a clock; nil, as it is in the
// beginning, for no date.
func (s *Server) SetClock(clock func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = clock
}

// SetVersion sets what the server says of itself at /version.
func (s *Server) SetVersion(gitVersion string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gitVersion = gitVersion
}

// Put puts a Secret into kube-system, new or instead of the one of that name,
// and returns it as stored.
func (s *Server) Put(secret *corev1.Secret) *corev1.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(secret.DeepCopy()).DeepCopy()
}

func (s *Server) put(secret *corev1.Secret) *corev1.Secret {
	s.revision++
	secret.Namespace = metav1.NamespaceSystem
	secret.ResourceVersion = strconv.Itoa(s.revision)
	if secret.UID == "" {
		secret.UID = types.UID(fmt.Sprintf("uid-%d", s.revision))
	}
	if secret.CreationTimestamp.IsZero() {
		secret.CreationTimestamp = metav1.NewTime(s.Created)
	}
	s.secrets[secret.Name] = secret
	return secret
}

// Remove takes a Secret away.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, name)
}

// Secret returns the Secret of that name, or nil.
func (s *Server) Secret(name string) *corev1.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets[name].DeepCopy()
}

// Names returns the names of all Secrets, sorted.
func (s *Server) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.secrets))
}

// Requests returns the requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Writes returns those of the requests so far that would change something.
func (s *Server) Writes() []Request {
	return slices.DeleteFunc(s.Requests(), func(r Request) bool { return !r.Writes() })
}

// MostAtOnce returns how many requests were under way at the same time.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostAtOnce
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	req := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone(), Body: body}
	s.mu.Lock()
	s.requests = append(s.requests, req)
	s.inFlight++
	s.mostAtOnce = max(s.mostAtOnce, s.inFlight)
	hook, clock := s.hook, s.clock
	s.mu.Unlock()
	w.Header()["Date"] = nil // or net/http would add one
	if clock != nil {
		w.Header().Set("Date", clock().UTC().Format(http.TimeFormat))
	}
	defer func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}()
	if hook != nil && hook(w, r, req) {
		return
	}
	s.Serve(w, req)
}

// Serve answers a request as the API does. A hook calls it to have a request
// carried out before it spoils the answer.
func (s *Server) Serve(w http.ResponseWriter, req Request) {
	s.mu.Lock()
	code, obj := s.answer(req)
	s.mu.Unlock()
	Reply(w, req, code, obj)
}

func (s *Server) answer(req Request) (int, runtime.Object) {
	if req.Path == "/version" {
		raw, err := json.Marshal(map[string]string{"major": "1", "minor": "31", "gitVersion": s.gitVersion})
		if err != nil {
			return failure(apierrors.NewInternalError(err))
		}
		return http.StatusOK, &runtime.Unknown{Raw: raw}
	}
	if req.Path == ReviewsPath {
		return http.StatusCreated, &runtime.Unknown{Raw: []byte(`{"kind":"SelfSubjectReview","status":{"userInfo":{"username":"` + User + `"}}}`)}
	}
	if req.Path == NodesPath {
		return s.listNodes(req)
	}
	if name, ok := strings.CutPrefix(req.Path, ConfigMapsPath); ok {
		return s.configMap(req, strings.TrimPrefix(name, "/"))
	}
	if req.Path == SecretsPath {
		switch req.Method {
		case http.MethodGet:
			return s.list(req)
		case http.MethodPost:
			return s.create(req)
		}
	}
	name, ok := strings.CutPrefix(req.Path, SecretsPath+"/")
	if !ok {
		return failure(apierrors.NewNotFound(schema.GroupResource{}, req.Path))
	}
	secret := s.secrets[name]
	if secret == nil {
		return failure(apierrors.NewNotFound(secrets, name))
	}
	switch req.Method {
	case http.MethodGet:
		return http.StatusOK, secret.DeepCopy()
	case http.MethodDelete:
		return s.delete(req, secret)
	case http.MethodPatch:
		return s.patch(req, secret)
	}
	return failure(apierrors.NewMethodNotSupported(secrets, req.Method))
}

var secrets = schema.GroupResource{Resource: "secrets"}

func (s *Server) create(req Request) (int, runtime.Object) {
	secret := &corev1.Secret{}
	if err := decode(req.Body, secret); err != nil {
		return failure(apierrors.NewBadRequest(err.Error()))
	}
	if s.secrets[secret.Name] != nil {
		return failure(apierrors.NewAlreadyExists(secrets, secret.Name))
	}
	stored := s.put(secret).DeepCopy()
	if !req.Writes() {
		delete(s.secrets, secret.Name)
	}
	return http.StatusCreated, stored
}

func (s *Server) list(req Request) (int, runtime.Object) {
	after, err := base64.RawURLEncoding.DecodeString(req.Query.Get("continue"))
	if err != nil {
		return failure(apierrors.NewBadRequest("continue token"))
	}
	limit, _ := strconv.Atoi(cmp.Or(req.Query.Get("limit"), "0"))
	selected := strings.TrimPrefix(req.Query.Get("fieldSelector"), "type=")
	list := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.revision)}}
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		secret := s.secrets[name]
		if name <= string(after) || selected != "" && string(secret.Type) != selected {
			continue
		}
		if limit > 0 && len(list.Items) == limit {
			list.Continue = Continue(list.Items[limit-1].Name)
			break
		}
		list.Items = append(list.Items, *secret.DeepCopy())
	}
	return http.StatusOK, list
}

// Continue returns the token that continues a list behind that name.
func Continue(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

func (s *Server) delete(req Request, secret *corev1.Secret) (int, runtime.Object) {
	options := &metav1.DeleteOptions{}
	if len(req.Body) > 0 {
		if err := decode(req.Body, options); err != nil {
			return failure(apierrors.NewBadRequest(err.Error()))
		}
	}
	if p := options.Preconditions; p != nil && (p.UID != nil && *p.UID != secret.UID || p.ResourceVersion != nil && *p.ResourceVersion != secret.ResourceVersion) {
		return failure(apierrors.NewConflict(secrets, secret.Name, fmt.Errorf("precondition failed")))
	}
	if len(secret.Finalizers) > 0 {
		kept := secret.DeepCopy()
		kept.DeletionTimestamp = &metav1.Time{Time: time.Unix(1_700_000_000, 0)}
		if req.Writes() {
			s.secrets[secret.Name] = kept
		}
		return http.StatusOK, kept
	}
	if req.Writes() {
		delete(s.secrets, secret.Name)
	}
	return http.StatusOK, &metav1.Status{Status: metav1.StatusSuccess}
}

func (s *Server) patch(req Request, secret *corev1.Secret) (int, runtime.Object) {
	var patch struct {
		Metadata struct {
			UID             types.UID `json:"uid"`
			ResourceVersion string    `json:"resourceVersion"`
		} `json:"metadata"`
		Data map[string]*[]byte `json:"data"`
	}
	if got := req.Header.Get("Content-Type"); got != string(types.MergePatchType) {
		return failure(apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, req.Method, secrets, secret.Name, got, 0, false))
	}
	if err := json.Unmarshal(req.Body, &patch); err != nil {
		return failure(apierrors.NewBadRequest(err.Error()))
	}
	if uid := patch.Metadata.UID; uid != "" && uid != secret.UID {
		return failure(apierrors.NewConflict(secrets, secret.Name, fmt.Errorf("precondition failed: UID")))
	}
	if version := patch.Metadata.ResourceVersion; version != "" && version != secret.ResourceVersion {
		return failure(apierrors.NewConflict(secrets, secret.Name, fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again")))
	}
	patched := secret.DeepCopy()
	for key, value := range patch.Data {
		if value == nil {
			delete(patched.Data, key)
			continue
		}
		if patched.Data == nil {
			patched.Data = map[string][]byte{}
		}
		patched.Data[key] = *value
	}
	if req.Writes() {
		s.put(patched)
	}
	return http.StatusOK, patched.DeepCopy()
}

func failure(err *apierrors.StatusError) (int, runtime.Object) {
	return int(err.ErrStatus.Code), &err.ErrStatus
}

// Fail answers a request with an error.
func Fail(w http.ResponseWriter, req Request, err *apierrors.StatusError) {
	code, status := failure(err)
	Reply(w, req, code, status)
}

// Reply answers a request with an object, in the format that it asks for.
func Reply(w http.ResponseWriter, req Request, code int, obj runtime.Object) {
	mediaType := runtime.ContentTypeJSON
	if strings.HasPrefix(req.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		mediaType = runtime.ContentTypeProtobuf
	}
	var body []byte
	if raw, ok := obj.(*runtime.Unknown); ok {
		mediaType, body = runtime.ContentTypeJSON, raw.Raw
	} else {
		info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
		var err error
		if body, err = runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion), obj); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// Cut breaks the connection off without an answer.
func Cut() { panic(http.ErrAbortHandler) }

func decode(body []byte, into runtime.Object) error {
	_, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, into)
	return err
}
