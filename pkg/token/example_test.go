package token_test

import (
	"fmt"
	"os"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// A node refuses to join a server whose CA certificates do not have the hash of
// its token.
func Example() {
	bundle, err := os.ReadFile("testdata/single.pem") // on a server: /var/lib/rancher/k3s/server/tls/server-ca.crt
	if err != nil {
		panic(err)
	}
	hash, err := token.CAHash(bundle, time.Now())
	if err != nil {
		panic(err)
	}
	t := token.Token{ID: "abcdef", Secret: "0123456789abcdef"}.WithCAHash(hash)
	fmt.Println(t)
	fmt.Println(t.Reveal())
	// Output:
	// K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::abcdef.******
	// K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::abcdef.0123456789abcdef
}

func ExampleParse() {
	for _, s := range []string{
		"K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::server:3f6e0a",
		"abcdef.0123456789abcdef",
		"K10d2ec0c9a::server:3f6e0a",
	} {
		t, err := token.Parse(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(t.Type(), "token", t)
	}
	// Output:
	// server token K10d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260::server:******
	// bootstrap token abcdef.******
	// invalid CA hash: must be 64 characters, got 8
}

func ExampleGeneratePassword() {
	server := token.Token{User: token.UserServer, Secret: token.GeneratePassword()}
	fmt.Println(server.Type(), len(server.Reveal()), server)
	// Output: server 32 ******
}
