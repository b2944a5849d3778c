package kube

import (
	"bytes"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FuzzSecretDecoder compares the decoder of Secrets with the generated one, for
// messages as API servers write them. It decodes each twice, as nothing of the one
// before may be left. Of other messages it may refuse some that the generated one
// takes.
func FuzzSecretDecoder(f *testing.F) {
	for _, secret := range []*corev1.Secret{
		{},
		{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u", ResourceVersion: "1", CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000, 0))}, Type: "t"},
		{Data: map[string][]byte{"": nil, "a": []byte("b"), "token-id": []byte("abcdef")}},
		{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"l": "v"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}, {Manager: "n"}}}},
		{Immutable: new(bool), StringData: map[string]string{"a": "b"}},
	} {
		message, err := secret.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	decode := newSecretDecoder()
	f.Fuzz(func(t *testing.T, message []byte) {
		_, _ = decode(bytes.Clone(message)) // whatever it says, it does not panic
		want := &corev1.Secret{}
		if want.Unmarshal(message) != nil {
			return
		}
		message, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		want.ManagedFields, want.StringData, want.Immutable = nil, nil, nil
		for range 2 {
			got, err := decode(bytes.Clone(message))
			if err != nil {
				t.Fatal(err)
			}
			if !apiequality.Semantic.DeepEqual(got, want) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		}
	})
}
