package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// kubeconfig writes a kubeconfig for the cluster that differs from the server's
// own in one way or another. It is JSON, which is YAML too.
func kubeconfig(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "kubeconfig")
	flags := flag.NewFlagSet("kubeconfig", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	server := scriptServer(ts)
	ca := flags.String("ca", "data", "how the CA is given: data, trimmed, crlf, file, none")
	caData := flags.String("ca-data", server.CAFile, "file with the CA")
	serverURL := flags.String("server", server.URL, "URL of the API")
	account := flags.String("serviceaccount", "", "ServiceAccount in kube-system instead of the administrator")
	login := flags.String("exec", "", "exec plugin that logs in, instead of the administrator's certificate")
	proxyURL := flags.String("proxy-url", "", "proxy on the way to the API")
	contextName := flags.String("context", "default", "name of the context, the cluster and the user")
	if len(args) == 0 {
		ts.Fatalf("usage: kubeconfig FILE [FLAGS]")
	}
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		ts.Fatalf("usage: kubeconfig FILE [FLAGS]: %v %v", err, flags.Args())
	}
	cluster := map[string]any{"server": *serverURL}
	content := []byte(ts.ReadFile(*caData))
	switch *ca {
	case "data":
		cluster["certificate-authority-data"] = content
	case "trimmed":
		cluster["certificate-authority-data"] = bytes.TrimSpace(content)
	case "crlf":
		cluster["certificate-authority-data"] = bytes.ReplaceAll(content, []byte("\n"), []byte("\r\n"))
	case "file":
		cluster["certificate-authority"] = ts.MkAbs(*caData)
	case "none":
		cluster["insecure-skip-tls-verify"] = true
	default:
		ts.Fatalf("unknown --ca %q", *ca)
	}
	if *proxyURL != "" {
		cluster["proxy-url"] = *proxyURL
	}
	user := map[string]any{}
	switch {
	case *account != "":
		user["token"] = serviceAccountToken(ts, *account)
	case *login != "":
		user["exec"] = map[string]any{
			"apiVersion":      "client.authentication.k8s.io/v1",
			"command":         ts.MkAbs(*login),
			"interactiveMode": "Never",
		}
	default:
		user["client-certificate"] = filepath.Join(server.DataDir, "server", "tls", "client-admin.crt")
		user["client-key"] = filepath.Join(server.DataDir, "server", "tls", "client-admin.key")
	}
	config, err := json.Marshal(map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": *contextName,
		"clusters":        []any{map[string]any{"name": *contextName, "cluster": cluster}},
		"users":           []any{map[string]any{"name": *contextName, "user": user}},
		"contexts": []any{map[string]any{
			"name":    *contextName,
			"context": map[string]any{"cluster": *contextName, "user": *contextName},
		}},
	})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), config, 0o600))
}

// serviceAccountToken asks the API for a token of a ServiceAccount.
func serviceAccountToken(ts *testscript.TestScript, name string) string {
	path := "/api/v1/namespaces/kube-system/serviceaccounts/" + url.PathEscape(name) + "/token"
	request := `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}`
	answer, err := call(scriptServer(ts), http.MethodPost, path, "application/json", []byte(request))
	ts.Check(err)
	var response struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	ts.Check(json.Unmarshal(answer, &response))
	return response.Status.Token
}

// proxy puts a TLS proxy with another CA before the API, as Rancher and load
// balancers do. It passes bearer tokens on, and no client certificates.
func proxy(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "proxy")
	usage(ts, args, 0, 1, "proxy [PATH]")
	prefix := ""
	if len(args) == 1 {
		prefix = strings.TrimSuffix(args[0], "/")
	}
	server := scriptServer(ts)
	target, err := url.Parse(server.URL)
	ts.Check(err)
	bundle, err := os.ReadFile(server.CAFile)
	ts.Check(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		ts.Fatalf("%s holds no certificate", server.CAFile)
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, prefix)
			r.Out.URL.RawPath = ""
			r.SetURL(target)
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
	listener := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, prefix+"/") {
			http.Error(w, fmt.Sprintf("this proxy serves %s only", prefix), http.StatusNotFound)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	ts.Defer(listener.Close)
	ca := ts.MkAbs("proxy-ca.crt")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: listener.Certificate().Raw}
	ts.Check(os.WriteFile(ca, pem.EncodeToMemory(block), 0o600))
	ts.Setenv("PROXY_URL", listener.URL+prefix)
	ts.Setenv("PROXY_CA", ca)
}

// connectProxy is an HTTP proxy that counts what it tunnels.
type connectProxy struct{ requests atomic.Int64 }

// proxyKey is under which a script's environment holds its connectProxy.
type proxyKey struct{}

// startConnectProxy starts an HTTP proxy: $CONNECT_PROXY.
func startConnectProxy(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "connect-proxy")
	usage(ts, args, 0, 0, "connect-proxy")
	counter := ts.Value(proxyKey{}).(*connectProxy)
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "this proxy only tunnels", http.StatusMethodNotAllowed)
			return
		}
		counter.requests.Add(1)
		tunnel(w, r)
	}))
	ts.Defer(listener.Close)
	ts.Setenv("CONNECT_PROXY", listener.URL)
}

// tunnel connects the two ends of a CONNECT request until one of them closes.
func tunnel(w http.ResponseWriter, r *http.Request) {
	upstream, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer upstream.Close()
	downstream, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer downstream.Close()
	if _, err := io.WriteString(downstream, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{upstream, downstream}, {downstream, upstream}} {
		go func() {
			_, _ = io.Copy(ends[0], ends[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// proxiedRequests checks that the connect-proxy was used since the last look.
func proxiedRequests(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 0, 0, "[!] proxied-requests")
	if used := ts.Value(proxyKey{}).(*connectProxy).requests.Swap(0) > 0; used == neg {
		ts.Fatalf("proxy used: %v, want %v", used, !neg)
	}
}

// silence listens on a port where connections are taken and nothing is ever
// said: $SILENT_URL.
func silence(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "silence")
	usage(ts, args, 0, 0, "silence")
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ts.Check(listener.Close()) })
	ts.Setenv("SILENT_URL", "https://"+listener.Addr().String())
}
