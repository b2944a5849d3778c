// Package kube is the way to a cluster's API: client-go's REST client with the
// few types that the plugin deals with.
//
// The clients of client-go's typed/core/v1 link the types of all API groups,
// and its gentype the library's own test doubles, which make the program large
// and its start slow (docs/size.md). And a list of theirs is in memory as a
// whole before the caller sees the first object, where this one hands out each
// as it arrives.
package kube

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Client is a client of one API server. Its methods may be called from several
// goroutines.
type Client struct {
	*rest.RESTClient
	parameters runtime.ParameterCodec
}

// NewClient returns a client that asks for protobuf, and sends its requests with
// the given one of package http, which rest.HTTPClientFor makes. It opens no
// connection.
func NewClient(config *rest.Config, transport *http.Client) (*Client, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.Node{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)

	config = rest.CopyConfig(config)
	config.APIPath = "/api"
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	straight := *transport
	straight.CheckRedirect = refuseRedirect
	client, err := rest.RESTClientForConfigAndClient(config, &straight)
	return &Client{client, runtime.NewParameterCodec(scheme)}, err
}

// refuseRedirect keeps package http from following a redirect, which API servers
// do not give: what was to change something would be a GET there, and answered as
// if it were done, or the body and its secrets would go to somebody else.
func refuseRedirect(request *http.Request, _ []*http.Request) error {
	return refusal(request.Response.StatusCode, fmt.Sprintf("the request is redirected to %s://%s, as no Kubernetes API does: set the API server's own address (--server)",
		request.URL.Scheme, request.URL.Host))
}

// refusal is an answer that has no reason of Kubernetes's own.
func refusal(code int, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Message: message}} //nolint:gosec // an HTTP status
}

// Secrets returns the client for the Secrets of a namespace.
func (c *Client) Secrets(namespace string) Resource[corev1.Secret, *corev1.Secret] {
	return Resource[corev1.Secret, *corev1.Secret]{c, namespace, "secrets", newSecretDecoder}
}

// ConfigMaps returns the client for the ConfigMaps of a namespace.
func (c *Client) ConfigMaps(namespace string) Resource[corev1.ConfigMap, *corev1.ConfigMap] {
	return Resource[corev1.ConfigMap, *corev1.ConfigMap]{c, namespace, "configmaps", newDecoder[corev1.ConfigMap]}
}

// Nodes returns the client for nodes.
func (c *Client) Nodes() Resource[corev1.Node, *corev1.Node] {
	return Resource[corev1.Node, *corev1.Node]{c, metav1.NamespaceNone, "nodes", newDecoder[corev1.Node]}
}

// object is a pointer to an API type.
type object[T any] interface {
	*T
	runtime.Object
	metav1.Object
	Unmarshal(protobuf []byte) error
}

// Resource is a client for the objects of one type, in one namespace where the
// type has namespaces. Its methods are those of client-go's typed clients, with
// the same errors, but for List.
type Resource[T any, P object[T]] struct {
	client    *Client
	namespace string
	name      string // such as secrets
	decoder   func() decoder[P]
}

// Get reads an object.
func (r Resource[T, P]) Get(ctx context.Context, name string, opts metav1.GetOptions) (P, error) {
	return r.one(ctx, r.client.Get().Name(name), &opts)
}

// Create writes a new object, and returns it as stored.
func (r Resource[T, P]) Create(ctx context.Context, obj P, opts metav1.CreateOptions) (P, error) {
	return r.one(ctx, r.client.Post().Body(obj), &opts)
}

// Update writes an object anew, and returns it as stored.
func (r Resource[T, P]) Update(ctx context.Context, obj P, opts metav1.UpdateOptions) (P, error) {
	return r.one(ctx, r.client.Put().Name(obj.GetName()).Body(obj), &opts)
}

// Patch changes an object, and returns it as stored.
func (r Resource[T, P]) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, opts metav1.PatchOptions) (P, error) {
	return r.one(ctx, r.client.Patch(kind).Name(name).Body(patch), &opts)
}

// Delete removes an object. One that its finalizers keep is an error with status
// 423.
func (r Resource[T, P]) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	answer, err := r.path(r.client.RESTClient.Delete().Name(name).Body(&opts)).Do(ctx).Get()
	if err != nil {
		return err
	}
	// The answer is a Status, or the object as it is now.
	if left, ok := answer.(P); ok && left.GetDeletionTimestamp() != nil && len(left.GetFinalizers()) > 0 {
		return refusal(http.StatusLocked, fmt.Sprintf("%s %q is marked for deletion, and stays until its finalizers are removed: %s",
			r.name, name, strings.Join(left.GetFinalizers(), " ")))
	}
	return nil
}

func (r Resource[T, P]) one(ctx context.Context, request *rest.Request, opts runtime.Object) (P, error) {
	result := P(new(T))
	err := r.path(request).VersionedParams(opts, r.client.parameters).Do(ctx).Into(result)
	if err == nil && result.GetName() == "" {
		err = errMalformed
	}
	return result, err
}

func (r Resource[T, P]) path(request *rest.Request) *rest.Request {
	return request.NamespaceIfScoped(r.namespace, r.namespace != metav1.NamespaceNone).Resource(r.name)
}
