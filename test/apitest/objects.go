package apitest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// ConfigMapsPath is where the ConfigMaps of kube-system are.
	ConfigMapsPath = "/api/v1/namespaces/kube-system/configmaps"
	// NodesPath is where the nodes are.
	NodesPath = "/api/v1/nodes"
	// ReviewsPath is where clients ask who they are.
	ReviewsPath = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

	// User is who the server takes every client for.
	User = "jane"
)

var configMaps = schema.GroupResource{Resource: "configmaps"}

// SetConfigMap puts a ConfigMap into kube-system, new or instead of the one of
// that name.
func (s *Server) SetConfigMap(name string, data map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putConfigMap(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data})
}

// ConfigMap returns the ConfigMap of that name, or nil.
func (s *Server) ConfigMap(name string) *corev1.ConfigMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configMaps[name].DeepCopy()
}

// SetNodes gives the cluster these nodes, and no others.
func (s *Server) SetNodes(nodes ...corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = nodes
}

func (s *Server) putConfigMap(configMap *corev1.ConfigMap) *corev1.ConfigMap {
	s.revision++
	configMap.Namespace = metav1.NamespaceSystem
	configMap.ResourceVersion = strconv.Itoa(s.revision)
	if configMap.UID == "" {
		configMap.UID = types.UID(fmt.Sprintf("uid-%d", s.revision))
	}
	s.configMaps[configMap.Name] = configMap
	return configMap
}

// configMap answers a request for ConfigMaps; name is that of one of them, or
// empty.
func (s *Server) configMap(req Request, name string) (int, runtime.Object) {
	sent := &corev1.ConfigMap{}
	if req.Method == http.MethodPost || req.Method == http.MethodPut {
		if err := decode(req.Body, sent); err != nil {
			return failure(apierrors.NewBadRequest(err.Error()))
		}
	}
	if req.Method == http.MethodPost && name == "" {
		if s.configMaps[sent.Name] != nil {
			return failure(apierrors.NewAlreadyExists(configMaps, sent.Name))
		}
		return http.StatusCreated, s.keepConfigMap(req, sent)
	}
	stored := s.configMaps[name]
	if stored == nil {
		return failure(apierrors.NewNotFound(configMaps, name))
	}
	switch req.Method {
	case http.MethodGet:
		return http.StatusOK, stored.DeepCopy()
	case http.MethodPut:
		if sent.ResourceVersion != "" && sent.ResourceVersion != stored.ResourceVersion {
			return failure(apierrors.NewConflict(configMaps, name, errors.New("the object has been modified; please apply your changes to the latest version and try again")))
		}
		if sent.UID != "" && sent.UID != stored.UID {
			return failure(apierrors.NewConflict(configMaps, name, errors.New("precondition failed: UID")))
		}
		sent.UID = stored.UID
		return http.StatusOK, s.keepConfigMap(req, sent)
	case http.MethodDelete:
		options := &metav1.DeleteOptions{}
		if len(req.Body) > 0 {
			if err := decode(req.Body, options); err != nil {
				return failure(apierrors.NewBadRequest(err.Error()))
			}
		}
		if p := options.Preconditions; p != nil && (p.UID != nil && *p.UID != stored.UID || p.ResourceVersion != nil && *p.ResourceVersion != stored.ResourceVersion) {
			return failure(apierrors.NewConflict(configMaps, name, errors.New("precondition failed")))
		}
		if req.Writes() {
			delete(s.configMaps, name)
		}
		return http.StatusOK, &metav1.Status{Status: metav1.StatusSuccess}
	}
	return failure(apierrors.NewMethodNotSupported(configMaps, req.Method))
}

// keepConfigMap stores a ConfigMap, unless the request is a dry run.
func (s *Server) keepConfigMap(req Request, sent *corev1.ConfigMap) *corev1.ConfigMap {
	before := s.configMaps[sent.Name]
	kept := s.putConfigMap(sent).DeepCopy()
	switch {
	case req.Writes():
	case before == nil:
		delete(s.configMaps, sent.Name)
	default:
		s.configMaps[sent.Name] = before
	}
	return kept
}

func (s *Server) listNodes(req Request) (int, runtime.Object) {
	selector, err := labels.Parse(req.Query.Get("labelSelector"))
	if err != nil {
		return failure(apierrors.NewBadRequest(err.Error()))
	}
	selected := slices.DeleteFunc(slices.Clone(s.nodes), func(n corev1.Node) bool { return !selector.Matches(labels.Set(n.Labels)) })
	return http.StatusOK, &corev1.NodeList{Items: selected}
}
