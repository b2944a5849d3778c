package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const secretPrefix = "bootstrap-token-"

var onlyTokens = metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)}

// commands are the commands of scripts besides testscript's own. A file may be
// named "stdout" for the output of the last command.
//
//	create ARGS...            kubectl create in kube-system; what it makes goes when the script ends
//	secret-data ID            print the data of the token's Secret, but for its id and secret
//	token-count N             the cluster has N bootstrap tokens
//	k3s-validates FILE [URL]  a joining node's own code accepts the server of that URL and the token, and the server the token; with ! not
//	proxy [PATH]              start an HTTPS proxy to the API with a CA of its own and administrator's rights: $PROXY_URL, $PROXY_CA
//	connect-proxy FILE        start an HTTP proxy that writes the requests to tunnel into the file: $CONNECT_PROXY
//	silence                   start a server that never says anything: $SILENT_URL
//	restart FILE [URL]        restart the server of that URL with the server token in the file
//	await FILE PATTERN        wait until a line of the file matches
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"create":        create,
	"secret-data":   secretData,
	"token-count":   tokenCount,
	"k3s-validates": k3sValidates,
	"proxy":         proxy,
	"connect-proxy": connectProxy,
	"silence":       silence,
	"restart":       restart,
	"await":         await,
}

func usage(ts *testscript.TestScript, args []string, least, most int, text string) {
	if len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", text)
	}
}

// scriptServer is the script's server of a URL, or the one that it has to itself.
func scriptServer(ts *testscript.TestScript, url ...string) *k3stest.Server {
	server, found := ts.Value(serversKey{}).(map[string]*k3stest.Server)[strings.Join(url, "")]
	if !found {
		ts.Fatalf("no server has the URL %s", url)
	}
	return server
}

func create(ts *testscript.TestScript, _ bool, args []string) {
	kubectl := []string{"--kubeconfig", scriptServer(ts).Kubeconfig, "--namespace", metav1.NamespaceSystem}
	ts.Check(ts.Exec("kubectl", slices.Concat(kubectl, []string{"create", "--output", "name"}, args)...))
	made := strings.Fields(ts.ReadFile("stdout"))
	ts.Defer(func() {
		if err := ts.Exec("kubectl", slices.Concat(kubectl, []string{"delete", "--ignore-not-found"}, made)...); err != nil {
			ts.Logf("clean up: %v", err)
		}
	})
}

func secrets(server *k3stest.Server) corev1client.SecretInterface {
	return server.Core.Secrets(metav1.NamespaceSystem)
}

func secretData(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 1, "secret-data ID")
	secret, err := secrets(scriptServer(ts)).Get(context.Background(), secretPrefix+args[0], metav1.GetOptions{})
	ts.Check(err)
	for _, field := range slices.Sorted(maps.Keys(secret.Data)) {
		value := string(secret.Data[field])
		if field == "token-id" || field == "token-secret" {
			value = "..."
		}
		_, err := fmt.Fprintf(ts.Stdout(), "%s: %s\n", field, value)
		ts.Check(err)
	}
}

func tokenCount(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 1, "token-count N")
	list, err := secrets(scriptServer(ts)).List(context.Background(), onlyTokens)
	ts.Check(err)
	if strconv.Itoa(len(list.Items)) != args[0] {
		ts.Fatalf("the cluster has %d bootstrap tokens, want %s", len(list.Items), args[0])
	}
}

// readToken is the one token in a file.
func readToken(ts *testscript.TestScript, file string) string {
	fields := strings.Fields(ts.ReadFile(file))
	if len(fields) != 1 {
		ts.Fatalf("%s holds %d words, want one token", file, len(fields))
	}
	return fields[0]
}

func k3sValidates(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 2, "[!] k3s-validates FILE [URL]")
	server, text := scriptServer(ts, args[1:]...), readToken(ts, args[0])
	o, noOracle := oracle()
	// A server forgets a token that has authenticated only after ten seconds.
	awaitTrue(ts, fmt.Sprintf("K3s takes the token: %v", !neg), func() bool {
		accepts, err := server.Accepts(context.Background(), text) // the part of it that the server does
		ts.Check(err)
		if noOracle == nil {
			answer, err := o.Validate(server, text)
			ts.Check(err)
			accepts = answer.Error == ""
		}
		return accepts != neg
	})
}

func proxy(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 0, 1, "proxy [PATH]")
	prefix := strings.TrimSuffix(strings.Join(args, ""), "/")
	between, err := startBetween(scriptServer(ts), func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		http.StripPrefix(prefix, forward).ServeHTTP(w, r)
	})
	ts.Check(err)
	ts.Defer(between.Close)
	ts.Check(os.WriteFile(ts.MkAbs("proxy-ca.crt"), between.ca(), 0o600))
	ts.Setenv("PROXY_URL", between.URL+prefix)
	ts.Setenv("PROXY_CA", ts.MkAbs("proxy-ca.crt"))
}

func connectProxy(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 1, "connect-proxy FILE")
	log, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	listener, err := startConnectProxy("127.0.0.1", func(host string) string {
		fmt.Fprintln(log, "CONNECT", host)
		return host
	})
	ts.Check(err)
	ts.Defer(func() { listener.Close(); _ = log.Close() })
	ts.Setenv("CONNECT_PROXY", listener.URL)
}

func silence(ts *testscript.TestScript, _ bool, _ []string) {
	listener, err := listenOn("127.0.0.1")
	ts.Check(err)
	ts.Defer(func() { _ = listener.Close() })
	ts.Setenv("SILENT_URL", "https://"+listener.Addr().String())
}

func restart(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 1, 2, "restart FILE [URL]")
	ts.Check(scriptServer(ts, args[1:]...).Restart(context.Background(), readToken(ts, args[0])))
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 2, 2, "await FILE PATTERN")
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	awaitTrue(ts, args[0]+" matches "+args[1], func() bool {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && pattern.Match(content)
	})
}
