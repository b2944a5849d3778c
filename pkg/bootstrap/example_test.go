package bootstrap_test

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// A token is created for one machine, looked up, and taken back.
func Example() {
	ctx := context.Background()
	clientset := fake.NewSimpleClientset() // or kubernetes.NewForConfig(config)
	store := bootstrap.NewStore(clientset.CoreV1().Secrets(bootstrap.Namespace))
	err := store.Create(ctx, &bootstrap.Token{
		Token:       token.Token{ID: "abcdef", Secret: "0123456789abcdef"}, // or none: Create generates it
		Expires:     time.Now().Add(time.Hour),
		Usages:      []string{"authentication"},
		Groups:      []string{bootstrap.GroupK3s},
		Description: "machine 7",
	})
	if err != nil {
		panic(err)
	}
	ref, err := bootstrap.ParseRef("abcdef")
	if err != nil {
		panic(err)
	}
	t, err := store.Get(ctx, ref)
	if err != nil {
		panic(err)
	}
	status, _ := t.Status(time.Now())
	fmt.Println(t.Description, status)

	caHash := "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260" // of token.CAHash
	fmt.Println("K3S_TOKEN=" + t.WithCAHash(caHash).Reveal())
	if err := store.Delete(ctx, t); err != nil {
		panic(err)
	}
	// Output:
	// machine 7 Active
	// K3S_TOKEN=K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::abcdef.0123456789abcdef
}
