package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// clusterScoped are the kinds that scripts apply outside of any namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "Namespace", "Node"}

func apply(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 1, "apply FILE")
	client := scriptServer(ts).Core.RESTClient()
	for decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(ts.ReadFile(args[0])), 4096); ; {
		var object unstructured.Unstructured
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		ts.Check(err)
		if len(object.Object) == 0 { // nothing but comments
			continue
		}
		body, err := object.MarshalJSON()
		ts.Check(err)
		path := objectPath(&object)
		ts.Check(client.Verb(http.MethodPatch).AbsPath(path).Param("fieldManager", "e2e").Param("force", "true").
			SetHeader("Content-Type", "application/apply-patch+yaml").Body(body).Do(context.Background()).Error())
		ts.Defer(func() {
			if err := client.Delete().AbsPath(path).Do(context.Background()).Error(); err != nil && !apierrors.IsNotFound(err) {
				ts.Logf("clean up: %v", err)
			}
		})
	}
}

// objectPath is the API's path of an object; kube-system is its namespace if
// the object names none.
func objectPath(object *unstructured.Unstructured) string {
	path := "/apis/" + object.GetAPIVersion()
	if !strings.Contains(object.GetAPIVersion(), "/") {
		path = "/api/" + object.GetAPIVersion()
	}
	if !slices.Contains(clusterScoped, object.GetKind()) {
		path += "/namespaces/" + cmp.Or(object.GetNamespace(), metav1.NamespaceSystem)
	}
	return path + "/" + strings.ToLower(object.GetKind()) + "s/" + object.GetName()
}

func api(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 2, 3, "[!] api METHOD PATH [FILE]")
	request := scriptServer(ts).Core.RESTClient().Verb(args[0]).AbsPath(args[1])
	if len(args) == 3 {
		contentType := "application/json"
		if args[0] == http.MethodPatch {
			contentType = "application/merge-patch+json"
		}
		request.SetHeader("Content-Type", contentType).Body([]byte(ts.ReadFile(args[2])))
	}
	answer, err := request.DoRaw(context.Background())
	if neg != (err != nil) {
		ts.Fatalf("%s %s: %v", args[0], args[1], err)
	}
	_, err = ts.Stdout().Write(answer)
	ts.Check(err)
}

// writeKubeconfig writes the server's kubeconfig to a file, with changes.
func writeKubeconfig(server *k3stest.Server, file string, change func(*clientcmdapi.Config, *clientcmdapi.Cluster, *clientcmdapi.AuthInfo)) error {
	config, err := clientcmd.LoadFromFile(server.Kubeconfig)
	if err != nil {
		return err
	}
	change(config, config.Clusters["default"], config.AuthInfos["default"])
	return clientcmd.WriteToFile(*config, file)
}

// kubeconfig writes a kubeconfig for the cluster that differs from the server's
// own in one way or another.
func kubeconfig(ts *testscript.TestScript, _ bool, args []string) {
	server := scriptServer(ts)
	flags := flag.NewFlagSet("kubeconfig", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	ca := flags.String("ca", "data", "how the CA is given: data, trimmed, crlf, file, none")
	caData := flags.String("ca-data", server.CAFile, "file with the CA")
	serverURL := flags.String("server", server.URL, "URL of the API")
	account := flags.String("serviceaccount", "", "ServiceAccount in kube-system instead of the administrator")
	login := flags.String("exec", "", "exec plugin that logs in, instead of the administrator's certificate")
	proxyURL := flags.String("proxy-url", "", "proxy on the way to the API")
	name := flags.String("context", "default", "name of the context, the cluster and the user")
	if len(args) == 0 || flags.Parse(args[1:]) != nil || flags.NArg() > 0 {
		ts.Fatalf("usage: kubeconfig FILE [FLAGS]")
	}
	bundle := []byte(ts.ReadFile(*caData))
	ts.Check(writeKubeconfig(server, ts.MkAbs(args[0]), func(config *clientcmdapi.Config, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) {
		cluster.Server, cluster.ProxyURL, cluster.CertificateAuthorityData = *serverURL, *proxyURL, bundle
		switch *ca {
		case "trimmed":
			cluster.CertificateAuthorityData = bytes.TrimSpace(bundle)
		case "crlf":
			cluster.CertificateAuthorityData = bytes.ReplaceAll(bundle, []byte("\n"), []byte("\r\n"))
		case "file":
			cluster.CertificateAuthorityData, cluster.CertificateAuthority = nil, ts.MkAbs(*caData)
		case "none":
			cluster.CertificateAuthorityData, cluster.InsecureSkipTLSVerify = nil, true
		}
		if *account != "" {
			*user = clientcmdapi.AuthInfo{Token: serviceAccountToken(ts, *account)}
		} else if *login != "" {
			*user = clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
				APIVersion: "client.authentication.k8s.io/v1", Command: ts.MkAbs(*login), InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
			}}
		}
		config.Clusters = map[string]*clientcmdapi.Cluster{*name: cluster}
		config.AuthInfos = map[string]*clientcmdapi.AuthInfo{*name: user}
		config.Contexts = map[string]*clientcmdapi.Context{*name: {Cluster: *name, AuthInfo: *name}}
		config.CurrentContext = *name
	}))
}

func serviceAccountToken(ts *testscript.TestScript, name string) string {
	request, err := scriptServer(ts).Core.ServiceAccounts(metav1.NamespaceSystem).
		CreateToken(context.Background(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	ts.Check(err)
	return request.Status.Token
}

func proxy(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 0, 1, "proxy [PATH]")
	prefix := strings.TrimSuffix(strings.Join(args, ""), "/")
	listener, err := startBetween(scriptServer(ts), func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		http.StripPrefix(prefix, forward).ServeHTTP(w, r)
	})
	ts.Check(err)
	ts.Defer(listener.Close)
	ts.Check(os.WriteFile(ts.MkAbs("proxy-ca.crt"), listener.ca(), 0o600))
	ts.Setenv("PROXY_URL", listener.URL+prefix)
	ts.Setenv("PROXY_CA", ts.MkAbs("proxy-ca.crt"))
}

func connectProxy(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 1, "connect-proxy FILE")
	log, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(log, r.Method, r.Host)
		tunnel(w, r)
	}))
	ts.Defer(func() { listener.Close(); _ = log.Close() })
	ts.Setenv("CONNECT_PROXY", listener.URL)
}

func silence(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 0, 0, "silence")
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ts.Check(listener.Close()) })
	ts.Setenv("SILENT_URL", "https://"+listener.Addr().String())
}

func restart(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 1, "restart FILE")
	server := scriptServer(ts)
	ts.Check(server.SetToken(k3stest.TokenCredentials(readToken(ts, args[0])).Password))
	ts.Check(server.Restart(context.Background()))
}
