package cmd_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
	"github.com/k3s-token/kubectl-k3s-token/test/supervisortest"
)

const (
	serverPassword = "f00dcafe5ec2e7f00dcafe5ec2e70001"
	agentPassword  = "a9e27a9e27a9e27a9e27a9e27a9e2702"
	nextPassword   = "0ddba11c0ffee0ddba11c0ffee000003"
)

// A peerCall is one run of the program on a computer that reaches K3s servers:
// its certificates are of today, and there are variables and trusted CAs.
type peerCall struct {
	cluster   *cluster // nil for none
	ctx       context.Context
	stdin     string
	stdout    io.Writer
	variables map[string]string
	systemCAs *x509.CertPool
	args      []string
}

func (c peerCall) run(t *testing.T) outcome {
	t.Helper()
	var out, stderr buffer
	env := cmd.Env{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(c.stdin), Out: &out, ErrOut: &stderr},
		Now:       time.Now,
		Getenv:    func(name string) string { return c.variables[name] },
		SystemCAs: func() (*x509.CertPool, error) { return c.systemCAs, nil },
	}
	if c.stdout != nil {
		env.Out = c.stdout
	}
	ctx := c.ctx
	if ctx == nil {
		ctx = t.Context()
	}
	kubeconfig := os.DevNull
	if c.cluster != nil {
		kubeconfig = c.cluster.kubeconfig
	}
	// What is completed stands at the end.
	verb := slices.Index(c.args, "verify") + 1
	args := slices.Concat([]string{"kubectl-k3s_token"}, c.args[:verb], []string{"--kubeconfig", kubeconfig}, c.args[verb:])
	code := cmd.Run(ctx, args, env)
	o := outcome{code, out.String(), stderr.String()}
	for _, secret := range []string{serverPassword, agentPassword, nextPassword, secretPart} {
		o.hides(t, secret)
	}
	return o
}

// newPeers returns a cluster of K3s servers, and the cluster's API, which knows
// the CA of the servers. The API is behind a proxy: the kubeconfig trusts
// another CA.
func newPeers(t *testing.T) (*cluster, *supervisortest.Cluster) {
	t.Helper()
	peers := supervisortest.NewCluster(t, supervisortest.Options{
		Password: serverPassword, AgentPassword: agentPassword, Bootstrap: []string{given},
	})
	api := newCluster(t)
	api.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(peers.Bundle)})
	return api, peers
}

func TestATokenComesInEveryWay(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	server := peers.NewServer(t)
	file := writeFile(t, "token", peers.Token(serverPassword)+"\n")
	inEnv := map[string]string{"K3S_TOKEN": peers.Token(serverPassword)}
	for name, c := range map[string]peerCall{
		"argument":             {args: []string{peers.Token(serverPassword)}},
		"standard input":       {args: []string{"-"}, stdin: peers.Token(serverPassword) + "\r\n"},
		"flag":                 {args: []string{"--token", peers.Token(serverPassword)}},
		"flag, standard input": {args: []string{"-t", "-"}, stdin: peers.Token(serverPassword)},
		"file":                 {args: []string{"--token-file", file}},
		"variable":             {variables: inEnv},
		"short format":         {args: []string{serverPassword}},
		"flag before variable": {args: []string{"--token-file", file}, variables: map[string]string{"K3S_TOKEN": "another"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cluster, c.args = api, append([]string{"verify", "-s", server.URL}, c.args...)
			c.run(t).wants(t, 0, "\nVerdict: accepted: servers can join", "")
		})
	}
	for name, test := range map[string]struct {
		call peerCall
		want string
	}{
		"none":               {peerCall{}, "error: no token given: "},
		"twice":              {peerCall{args: []string{given, "--token-file", file}}, "error: the token is given twice"},
		"twice, as flag":     {peerCall{args: []string{given, "-t", "-"}}, "error: the token is given twice"},
		"two arguments":      {peerCall{args: []string{given, given}}, "error: 2 arguments given"},
		"malformed":          {peerCall{args: []string{"K10ab::" + given}}, "error: malformed token: CA hash: it has 2 characters"},
		"malformed variable": {peerCall{variables: map[string]string{"K3S_TOKEN": "K10ab::" + given}}, "error: malformed token: "},
		"empty input":        {peerCall{args: []string{"-"}}, "error: standard input is empty"},
		"no such file":       {peerCall{args: []string{"--token-file", file + "x"}}, notFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.call.cluster, test.call.args = api, append([]string{"verify", "-s", server.URL}, test.call.args...)
			test.call.run(t).wants(t, 1, "", test.want)
		})
	}
}

func TestTheKubernetesAPINeverSeesTheToken(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	server := peers.NewServer(t)
	peerCall{cluster: api, args: []string{"verify", "--token", serverPassword, "--server", server.URL}}.run(t).
		wants(t, 0, "Verdict: accepted", "")
	peerCall{cluster: api, args: []string{"verify", "--token", given, "--server", server.URL}}.run(t).
		wants(t, 0, "Verdict: accepted", "")
	if len(api.Requests()) == 0 {
		t.Fatal("the API was not asked: the test shows nothing")
	}
	for _, r := range api.Requests() {
		if got := r.Header.Get("Authorization"); got != "Bearer bearer" {
			t.Errorf("%s was sent with %q", r, got)
		}
	}
}

func TestTheServerIsTheOneNamed(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	server := peers.NewServer(t)
	tok := peers.Token(serverPassword)
	dead := "https://127.0.0.1:1"

	peerCall{cluster: api, args: []string{"verify", tok}, variables: map[string]string{"K3S_URL": server.URL}}.run(t).
		wants(t, 0, "Server: "+server.URL+"\n", "")
	peerCall{cluster: api, args: []string{"verify", tok, "-s", server.URL}, variables: map[string]string{"K3S_URL": dead}}.run(t).
		wants(t, 0, "Server: "+server.URL+"\n", "")
	peerCall{cluster: api, args: []string{"verify", tok, "-s", server.URL, "-s", server.URL + "/"}}.run(t).
		wants(t, 0, "Server: "+server.URL+"\n", "")
	peerCall{args: []string{"verify", tok, "-s", server.URL}}.run(t).wants(t, 0, "Verdict: accepted", "")
	peerCall{args: []string{"verify", tok}}.run(t).
		wants(t, 1, "", "error: there is no kubeconfig context to learn the servers of: name them with --server\n")
	peerCall{args: []string{"verify", tok, "--all-servers"}}.run(t).
		wants(t, 1, "", "error: there is no kubeconfig context")
	for url, want := range map[string]string{
		"http://127.0.0.1:6443":       "error: --server: the server URL starts with http://, which would show the token",
		"127.0.0.1:6443":              "error: --server: the server URL has no scheme",
		tok:                           "error: --server: the server URL is a token",
		"https://u:p@127.0.0.1":       "error: --server: the server URL has a user name",
		"https://rancher.example/k8s": "error: --server: the server URL has a path",
	} {
		peerCall{cluster: api, args: []string{"verify", tok, "-s", url}}.run(t).wants(t, 1, "", want)
	}
	peerCall{cluster: api, args: []string{"verify", tok}, variables: map[string]string{"K3S_URL": "http://127.0.0.1"}}.run(t).
		wants(t, 1, "", "error: K3S_URL: the server URL starts with http://")
}

func TestTheServerIsTheContextsByDefault(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	// The API's server plays the supervisor as well, as K3s does.
	api.Handle(func(w http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		if r.URL.Path != "/cacerts" {
			return false
		}
		_, _ = w.Write(peers.Bundle)
		return true
	})
	// It is found, and not trusted: its certificate is of another CA.
	peerCall{cluster: api, args: []string{"verify", peers.Token(serverPassword)}}.run(t).
		wants(t, 1, "Server: "+api.URL+"\n", "error: step 4 failed, and the token was not sent to "+api.URL+"\n")

	api.SetVersion("v1.31.1+rke2r1")
	peerCall{cluster: api, args: []string{"verify", peers.Token(serverPassword)}}.run(t).
		wants(t, 1, "Server: https://127.0.0.1:9345\n", "error: step 1 failed")

	// A version that nobody tells is no reason to give up.
	api.Handle(func(w http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		if r.URL.Path != "/version" {
			return false
		}
		supervisortest.SendStatus(w, http.StatusForbidden, "no")
		return true
	})
	peerCall{cluster: api, args: []string{"verify", peers.Token(serverPassword)}}.run(t).
		wants(t, 1, "Server: "+api.URL+"\n", "error: step 1 failed")

	api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) { c.Server = "https://rancher.example/k8s/clusters/c-1" })
	peerCall{cluster: api, args: []string{"verify", peers.Token(serverPassword)}}.run(t).
		wants(t, 1, "", "error: the context's server cannot be taken: the server URL has a path")
}

func nodeWith(name, address string, roles ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, role := range roles {
		n.Labels["node-role.kubernetes.io/"+role] = "true"
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	if address != "" {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
	}
	return n
}

func TestAllServersAreTheNodesThatRunOne(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	args := []string{"verify", peers.Token(serverPassword), "--all-servers", "--request-timeout", "2s", "-o", `jsonpath={range .items[*]}{.server}{"\n"}{end}`}
	peerCall{cluster: api, args: args}.run(t).wants(t, 1, "", "error: the cluster has no node with the role control-plane: ")
	api.SetNodes(nodeWith("s1", "", "control-plane"))
	peerCall{cluster: api, args: args}.run(t).wants(t, 1, "", `error: node "s1" has no internal IP address: `)

	api.SetNodes(
		nodeWith("s3", "127.0.0.3", "etcd"), nodeWith("s2", "127.0.0.2", "master"), nodeWith("s1", "127.0.0.1", "control-plane", "etcd", "master"),
		nodeWith("s4", "::1", "control-plane"), nodeWith("w1", "127.0.0.5"), nodeWith("w2", "127.0.0.6", "worker"))
	port := api.URL[strings.LastIndex(api.URL, ":"):]
	for name, test := range map[string]struct{ version, server, port string }{
		"the context's port":     {"v1.31.1+k3s1", api.URL, port},
		"RKE2's":                 {"v1.31.1+rke2r1", api.URL, ":9345"},
		"of another Kubernetes":  {"v1.31.1", api.URL, port},
		"behind a load balancer": {"v1.31.1+k3s1", "https://127.0.0.1", ":6443"},
		"behind Rancher":         {"v1.31.1+k3s1", "https://127.0.0.1:8443/k8s/clusters/c-1", ":6443"},
	} {
		t.Run(name, func(t *testing.T) {
			api.SetVersion(test.version)
			api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				path, proxied := strings.CutPrefix(req.Path, "/k8s/clusters/c-1")
				if proxied {
					req.Path = path
					api.Serve(w, req)
				}
				return proxied
			})
			api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) {
				c.Server, c.ProxyURL, c.CertificateAuthorityData = test.server, leadTo(t, api), bundleOf(api)
			})
			o := peerCall{cluster: api, args: args}.run(t)
			want := "https://127.0.0.1" + test.port + "\nhttps://127.0.0.2" + test.port + "\nhttps://127.0.0.3" + test.port + "\nhttps://[::1]" + test.port + "\n"
			if o.out != want {
				t.Errorf("got %q, want %q\n%s", o.out, want, o.stderr)
			}
		})
	}
}

// leadTo starts an HTTP proxy that leads to the API wherever one wants to go.
func leadTo(t *testing.T, api *cluster) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := new(net.Dialer).DialContext(r.Context(), "tcp", api.Listener.Addr().String())
		if err != nil {
			return
		}
		defer func() { _ = to.Close() }()
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = from.Close() }()
		_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

func TestACompanysCAIsNoProofUnlessAsked(t *testing.T) {
	t.Parallel()
	_, peers := newPeers(t)
	server := peers.NewServer(t)
	foreign := "K10" + strings.Repeat("a", 64) + "::server:" + serverPassword
	c := peerCall{args: []string{"verify", foreign, "-s", server.URL}, systemCAs: peers.Pool()}
	c.run(t).wants(t, 1, "Verdict: not sent; if that is what you want, add --trust-system-cas\n", "error: step 3 failed")
	if server.SawCredentials() {
		t.Error("the server saw credentials")
	}
	c.args = append(c.args, "--trust-system-cas")
	c.run(t).wants(t, 0, "Verdict: accepted: servers can join", "")
}

func TestWhoStandsInForAMissingCAHash(t *testing.T) {
	t.Parallel()
	const vouched, stranger = "the server's is that of the context's cluster", "Verdict: not sent; use the token in secure format or a context of that cluster, or add --insecure-trust-server\n"
	for name, test := range map[string]struct {
		change func(t *testing.T, api *cluster, peers *supervisortest.Cluster)
		want   string
	}{
		"the ConfigMap": {func(*testing.T, *cluster, *supervisortest.Cluster) {}, vouched},
		"another cluster": {func(t *testing.T, api *cluster, _ *supervisortest.Cluster) {
			other := supervisortest.NewCluster(t, supervisortest.Options{})
			api.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(other.Bundle)})
		}, stranger},
		"the kubeconfig, where the API is down": {func(t *testing.T, api *cluster, peers *supervisortest.Cluster) {
			api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) {
				c.Server, c.CertificateAuthorityData = "https://127.0.0.1:1", peers.Bundle
			})
		}, vouched},
		"a context that verifies nobody": {func(t *testing.T, api *cluster, _ *supervisortest.Cluster) {
			api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) { c.InsecureSkipTLSVerify = true })
		}, stranger},
		"a context without TLS": {func(t *testing.T, api *cluster, peers *supervisortest.Cluster) {
			plain := apitest.New(t)
			plain.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(peers.Bundle)})
			api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) { c.Server = plain.URL })
		}, stranger},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, peers := newPeers(t)
			test.change(t, api, peers)
			server := peers.NewServer(t)
			c := peerCall{cluster: api, args: []string{"verify", serverPassword, "-s", server.URL}}
			o := c.run(t)
			if test.want == vouched {
				o.wants(t, 0, vouched, "")
				return
			}
			o.wants(t, 1, stranger, "error: step 3 failed, and the token was not sent to "+server.URL)
			if strings.Count(o.out, "download the CA bundle") != 1 {
				t.Errorf("the steps are shown twice:\n%s", o.out)
			}
			if server.SawCredentials() {
				t.Error("a stranger saw credentials")
			}
			c.args = append(c.args, "--insecure-trust-server")
			c.run(t).wants(t, 0, "skipped  the token has no CA hash: the server's identity is not verified", "")
		})
	}
}

func TestServersAreCompletedFromTheKubeconfig(t *testing.T) {
	t.Parallel()
	api := newCluster(t)
	peerCall{cluster: api, args: []string{"__complete", "verify", "--server", ""}}.run(t).
		wants(t, 0, api.URL+"\n:4\n", "ShellCompDirectiveNoFileComp")
	peerCall{args: []string{"__complete", "verify", "--server", ""}}.run(t).
		wants(t, 0, ":4\n", "ShellCompDirectiveNoFileComp")
}

// bundleOf is the CA bundle of an API server that apitest plays.
func bundleOf(api *cluster) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
}
