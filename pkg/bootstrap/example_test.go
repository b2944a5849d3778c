package bootstrap_test

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// A token is created for one machine, and taken back once the machine has joined.
func Example() {
	ctx := context.Background()
	clientset := fake.NewSimpleClientset() // or kubernetes.NewForConfig(config)
	store := bootstrap.NewStore(clientset.CoreV1().Secrets(bootstrap.Namespace))

	t := &bootstrap.Token{
		Token:       token.Token{ID: "abcdef", Secret: "0123456789abcdef"}, // or none: Create generates it
		Expires:     time.Now().Add(time.Hour),
		Usages:      []string{"authentication"},
		Groups:      []string{bootstrap.GroupK3s},
		Description: "machine 7",
	}
	if err := store.Create(ctx, t); err != nil {
		panic(err)
	}
	caHash := "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260" // of token.CAHash
	fmt.Println("K3S_TOKEN=" + t.WithCAHash(caHash).Reveal())

	if err := store.Delete(ctx, t); err != nil {
		panic(err)
	}
	// Output:
	// K3S_TOKEN=K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::abcdef.0123456789abcdef
}

// The command line often has the whole token, and a token may be malformed.
func ExampleStore_Get() {
	malformed := bootstrap.EncodeSecret(&bootstrap.Token{Token: token.Token{ID: "abcdef", Secret: "0123456789abcdef"}})
	malformed.Data["expiration"] = []byte("tomorrow")
	clientset := fake.NewSimpleClientset(malformed)
	store := bootstrap.NewStore(clientset.CoreV1().Secrets(bootstrap.Namespace))

	for _, s := range []string{"abcdef.0123456789abcdef", "abcdef.ffffffffffffffff"} {
		ref, err := bootstrap.ParseRef(s)
		if err != nil {
			panic(err)
		}
		t, err := store.Get(context.Background(), ref)
		if err != nil {
			fmt.Println(err)
			continue
		}
		status, reason := t.Status(time.Now())
		fmt.Println(t, status, reason)
	}
	// Output:
	// abcdef.****** Invalid expiration is not in RFC 3339
	// the token has another secret in this cluster
}
