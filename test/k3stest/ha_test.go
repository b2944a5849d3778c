package k3stest_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

func TestTwoServersOfOneCluster(t *testing.T) {
	network := newNetwork(t, 2)
	const password = "password-of-the-cluster"
	first := start(t, k3stest.Options{Program: "k3s", Token: password, Host: network.Host(1), Args: []string{"--cluster-init"}})
	second := start(t, k3stest.Options{Program: "k3s", Token: password, Host: network.Host(2), Join: first.SupervisorURL})

	const path = "/api/v1/namespaces/kube-system/configmaps"
	body := []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"shared"}}`)
	if status, _, err := first.Admin(t.Context(), http.MethodPost, path, "application/json", body); err != nil || status != http.StatusCreated {
		t.Fatalf("create a ConfigMap through the first server: status %d, %v", status, err)
	}
	if status, _, err := second.Admin(t.Context(), http.MethodGet, path+"/shared", "", nil); err != nil || status != http.StatusOK {
		t.Errorf("get it through the second: status %d, %v", status, err)
	}
	if status := supervisorStatus(t, second, password); status != http.StatusOK {
		t.Errorf("the second server answers %d to the cluster's token, want 200", status)
	}
	if err := second.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := supervisorStatus(t, second, password); status != http.StatusOK {
		t.Errorf("after a restart it answers %d, want 200", status)
	}
}

// newNetwork makes a network that is gone when the test is over.
func newNetwork(t *testing.T, hosts int) *k3stest.Network {
	t.Helper()
	if err := k3stest.NetworkMissing(); err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	network, err := k3stest.NewNetwork(hosts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	return network
}
