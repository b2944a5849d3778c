package kube

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// encode returns a list as an API server would send it.
func encode(t testing.TB, mediaType string, list runtime.Object) []byte {
	t.Helper()
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		t.Fatal(mediaType)
	}
	body, err := runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion), list)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func secretList(n int) *corev1.SecretList {
	list := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "more"}}
	for i := range n {
		list.Items = append(list.Items, corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d", i), CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000, 0))},
			Data:       map[string][]byte{"a": bytes.Repeat([]byte{byte(i)}, i)},
		})
	}
	return list
}

func read(in io.Reader) (names []string, meta metav1.ListMeta, err error) {
	meta, err = readList(bufio.NewReader(in), newSecretDecoder(), func(secret *corev1.Secret) error {
		if want := bytes.Repeat([]byte{byte(len(names))}, len(names)); !bytes.Equal(secret.Data["a"], want) && len(want) > 0 {
			return fmt.Errorf("%s holds %d bytes", secret.Name, len(secret.Data["a"]))
		}
		names = append(names, secret.Name)
		return nil
	})
	return names, meta, err
}

func TestAListIsReadInEitherFormat(t *testing.T) {
	for _, mediaType := range []string{runtime.ContentTypeProtobuf, runtime.ContentTypeJSON} {
		for _, n := range []int{0, 1, 300} {
			names, meta, err := read(iotest.HalfReader(bytes.NewReader(encode(t, mediaType, secretList(n)))))
			if err != nil || len(names) != n || n > 0 && names[n-1] != fmt.Sprintf("s%d", n-1) || meta.Continue != "more" || meta.ResourceVersion != "7" {
				t.Errorf("%s: %d of %d read, %+v, %v", mediaType, len(names), n, meta, err)
			}
		}
	}
}

func TestAListHasNoManagedFields(t *testing.T) {
	managed := func(n int) (entries []metav1.ManagedFieldsEntry) {
		for i := range n {
			entries = append(entries, metav1.ManagedFieldsEntry{
				Manager: fmt.Sprintf("manager %d", i), Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
				FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 100*i)),
			})
		}
		return entries
	}
	full := metav1.ObjectMeta{
		Name: "full", GenerateName: "f", Namespace: "kube-system", UID: "u", ResourceVersion: "7", Generation: 1,
		CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000, 0)), DeletionTimestamp: &metav1.Time{Time: time.Unix(1_700_000_001, 0)},
		DeletionGracePeriodSeconds: new(int64), Labels: map[string]string{"l": strings.Repeat("x", 200)},
		Annotations: map[string]string{"a": "b"}, Finalizers: []string{"f"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u"}},
	}
	for name, meta := range map[string]metav1.ObjectMeta{"empty": {}, "a name": {Name: "short"}, "all fields": full} {
		for n := range 4 {
			want := corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"a": []byte("b")}, Type: "t"}
			sent := want
			sent.ManagedFields = managed(n)
			got := 0
			_, err := readList(bufio.NewReader(bytes.NewReader(encode(t, runtime.ContentTypeProtobuf, &corev1.SecretList{Items: []corev1.Secret{sent}}))), newSecretDecoder(),
				func(secret *corev1.Secret) error {
					got++
					if !apiequality.Semantic.DeepEqual(*secret, want) {
						t.Errorf("%s, %d managed fields: got %+v", name, n, secret)
					}
					return nil
				})
			if err != nil || got != 1 {
				t.Errorf("%s, %d managed fields: %d objects, %v", name, n, got, err)
			}
		}
	}
}

// BenchmarkReadList reads what a server answers to a list of bootstrap tokens.
func BenchmarkReadList(b *testing.B) {
	const n = 1000
	list := &corev1.SecretList{}
	for i := range n {
		list.Items = append(list.Items, corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("bootstrap-token-%06d", i), Namespace: metav1.NamespaceSystem,
				UID:               types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i)),
				ResourceVersion:   fmt.Sprint(1000 + i),
				CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000, 0)),
				ManagedFields: []metav1.ManagedFieldsEntry{{
					Manager: "kubectl-k3s_token", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
					FieldsV1: metav1.NewFieldsV1(`{"f:data":{".":{},"f:auth-extra-groups":{},"f:description":{},"f:expiration":{},"f:token-id":{},"f:token-secret":{},"f:usage-bootstrap-authentication":{},"f:usage-bootstrap-signing":{}},"f:type":{}}`),
				}},
			},
			Data: map[string][]byte{
				"token-id": fmt.Appendf(nil, "%06d", i), "token-secret": []byte("0123456789abcdef"),
				"description": []byte("a benchmark"), "expiration": []byte("2030-01-31T12:00:00Z"),
				"usage-bootstrap-authentication": []byte("true"), "usage-bootstrap-signing": []byte("true"),
				"auth-extra-groups": []byte("system:bootstrappers:k3s:default-node-token"),
			},
			Type: corev1.SecretTypeBootstrapToken,
		})
	}
	answer := encode(b, runtime.ContentTypeProtobuf, list)
	b.SetBytes(int64(len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		read := 0
		_, err := readList(bufio.NewReaderSize(bytes.NewReader(answer), readSize), newSecretDecoder(), func(*corev1.Secret) error { read++; return nil })
		if err != nil || read != n {
			b.Fatal(read, err)
		}
	}
}

// Whatever is missing, it is noticed: a part must not pass for the whole.
func TestAListThatBreaksOffIsAnError(t *testing.T) {
	for _, mediaType := range []string{runtime.ContentTypeProtobuf, runtime.ContentTypeJSON} {
		whole := encode(t, mediaType, secretList(3))
		end := len(whole)
		if mediaType == runtime.ContentTypeJSON {
			end-- // its last byte is a new line
		} else {
			end -= 4 // the two empty fields behind the list, which nobody misses
		}
		for length := range end {
			if _, _, err := read(bytes.NewReader(whole[:length])); err == nil {
				t.Fatalf("%s: %d of %d bytes are read as a list", mediaType, length, len(whole))
			}
		}
	}
}

func TestWhatIsNoListIsAnError(t *testing.T) {
	for name, body := range map[string]string{
		"empty":               "",
		"HTML":                "<html><body>log in</body></html>",
		"magic alone":         protobufMagic + "\x12",
		"number in a message": protobufMagic + "\x10\x01",
		"endless length":      protobufMagic + "\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7fa",
		"length beyond":       protobufMagic + "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a",
		"tag without end":     protobufMagic + strings.Repeat("\xff", 11),
		"broken item":         protobufMagic + "\x12\x04\x12\x02\xff\xff",
	} {
		if names, _, err := read(strings.NewReader(body)); err == nil {
			t.Errorf("%s: read as a list of %d", name, len(names))
		}
	}
}

func serve(t *testing.T, handler http.HandlerFunc) Resource[corev1.Secret, *corev1.Secret] {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client, err := NewClient(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return client.Secrets("kube-system")
}

func TestListStopsWhereItIsTold(t *testing.T) {
	secrets := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.String(); got != "/api/v1/namespaces/kube-system/secrets?limit=9" {
			t.Errorf("asked for %s", got)
		}
		_, _ = w.Write(encode(t, runtime.ContentTypeProtobuf, secretList(5)))
	})
	enough := errors.New("enough")
	var names []string
	_, err := secrets.List(t.Context(), metav1.ListOptions{Limit: 9}, func(secret *corev1.Secret) error {
		if names = append(names, secret.Name); len(names) == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || !slices.Equal(names, []string{"s0", "s1"}) {
		t.Errorf("visited %v: %v", names, err)
	}
}

func TestListReturnsTheServersOwnError(t *testing.T) {
	secrets := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		status := apierrors.NewForbidden(corev1.Resource("secrets"), "", errors.New("no")).Status()
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(encode(t, runtime.ContentTypeProtobuf, &status))
	})
	_, err := secrets.List(t.Context(), metav1.ListOptions{}, func(*corev1.Secret) error { return nil })
	if !apierrors.IsForbidden(err) {
		t.Errorf("%v", err)
	}
}

func TestListEndsWithItsContext(t *testing.T) {
	secrets := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body := encode(t, runtime.ContentTypeProtobuf, secretList(300))
		_, _ = w.Write(body[:len(body)/2])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	_, err := secrets.List(ctx, metav1.ListOptions{}, func(*corev1.Secret) error {
		cancel(gone)
		return nil
	})
	if !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

// FuzzReadList reads what a hostile server may send: it neither panics nor
// takes more memory than arrives.
func FuzzReadList(f *testing.F) {
	for _, mediaType := range []string{runtime.ContentTypeProtobuf, runtime.ContentTypeJSON} {
		f.Add(encode(f, mediaType, secretList(3)))
	}
	f.Add([]byte(protobufMagic + "\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7fa"))
	f.Fuzz(func(t *testing.T, body []byte) {
		visited := 0
		_, err := readList(bufio.NewReader(bytes.NewReader(body)), newSecretDecoder(), func(_ *corev1.Secret) error {
			visited++
			return nil
		})
		if err == nil && visited > len(body) {
			t.Errorf("%d objects in %d bytes", visited, len(body))
		}
	})
}
