package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationv1client "k8s.io/client-go/kubernetes/typed/authentication/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	secretPrefix = "bootstrap-token-"

	// settleTime is how long the server may take to act on a change. It learns of
	// a new token within milliseconds, and forgets one that has authenticated
	// only after its cache of ten seconds.
	settleTime = time.Minute
)

var onlyTokens = metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)}

// commands are the commands of scripts besides testscript's own. A file may be
// named "stdout" for the output of the last command.
//
//	secret-data ID [KEY [VALUE]]  print the fields of the token's Secret, or one, or compare it; with ! it must be absent
//	token-count N                 the cluster has N bootstrap tokens
//	gone ID                       wait until the token's Secret is removed; with ! it is there now
//	token-id FILE VAR             set the variable to the id of the token in the file
//	ca-hash-matches FILE CA       the token in the file has the hash that K3s computes of the CA file
//	authenticates FILE as USER with GROUP...   the API takes the token for this user and exactly these extra groups; with ! it refuses it
//	k3s-validates FILE            a joining node's own code accepts server and token, and the server the token; with ! not
//	apply FILE                    server-side apply of YAML or JSON documents, undone when the script ends
//	api METHOD PATH [FILE]        a request to the API as administrator, prints the answer; with ! it must be refused
//	kubeconfig FILE [--ca=data|trimmed|crlf|file|none] [--ca-data=PEM] [--server=URL] [--serviceaccount=NAME] [--exec=FILE] [--proxy-url=URL] [--context=NAME]
//	                              write another kubeconfig for the cluster
//	proxy [PATH]                  start an HTTPS proxy to the API with a CA of its own: $PROXY_URL, $PROXY_CA; it has the administrator's credentials
//	connect-proxy FILE            start an HTTP proxy that writes the requests to tunnel into the file: $CONNECT_PROXY
//	silence                       start a server that never says anything: $SILENT_URL
//	restart FILE                  restart the server with the server token in the file
//	mode FILE MODE                the file has these permissions, such as 0600
//	await FILE PATTERN            wait until a line of the file matches
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"secret-data":     secretData,
	"token-count":     tokenCount,
	"gone":            gone,
	"token-id":        tokenID,
	"ca-hash-matches": caHashMatches,
	"authenticates":   authenticates,
	"k3s-validates":   k3sValidates,
	"apply":           apply,
	"api":             api,
	"kubeconfig":      kubeconfig,
	"proxy":           proxy,
	"connect-proxy":   connectProxy,
	"silence":         silence,
	"restart":         restart,
	"mode":            mode,
	"await":           await,
}

func usage(ts *testscript.TestScript, args []string, least, most int, text string) {
	if len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", text)
	}
}

func scriptServer(ts *testscript.TestScript) *k3stest.Server {
	return ts.Value(serverKey{}).(*k3stest.Server)
}

func secrets(server *k3stest.Server) corev1client.SecretInterface {
	return server.Core.Secrets(metav1.NamespaceSystem)
}

func getSecret(ts *testscript.TestScript, id string) (*corev1.Secret, error) {
	return secrets(scriptServer(ts)).Get(context.Background(), secretPrefix+id, metav1.GetOptions{})
}

func secretData(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 3, "[!] secret-data ID [KEY [VALUE]]")
	secret, err := getSecret(ts, args[0])
	ts.Check(err)
	if len(args) == 1 {
		_, err := fmt.Fprintln(ts.Stdout(), slices.Sorted(maps.Keys(secret.Data)))
		ts.Check(err)
		return
	}
	value, present := secret.Data[args[1]]
	switch {
	case present == neg:
		ts.Fatalf("the Secret of %s has a field %s: %v", args[0], args[1], present)
	case len(args) == 2 && !neg:
		_, err := fmt.Fprintf(ts.Stdout(), "%s\n", value)
		ts.Check(err)
	case len(args) == 3 && string(value) != args[2]:
		ts.Fatalf("the Secret of %s has %s %q, want %q", args[0], args[1], value, args[2])
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

func gone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 1, "[!] gone ID")
	if neg {
		_, err := getSecret(ts, args[0])
		ts.Check(err)
		return
	}
	eventually(ts, func() error {
		_, err := getSecret(ts, args[0])
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the Secret of %s is still there: %w", args[0], err)
	})
}

// eventually tries a check until it holds, and fails the script with its last
// error when the time is up.
func eventually(ts *testscript.TestScript, check func() error) {
	deadline := time.Now().Add(settleTime)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		time.Sleep(100 * time.Millisecond)
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

func readBootstrapToken(ts *testscript.TestScript, file string) string {
	credentials := k3stest.TokenCredentials(readToken(ts, file))
	if credentials.Bearer == "" {
		ts.Fatalf("%s does not hold a bootstrap token", file)
	}
	return credentials.Bearer
}

func tokenID(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 2, 2, "token-id FILE VAR")
	id, _, _ := strings.Cut(readBootstrapToken(ts, args[0]), ".")
	ts.Setenv(args[1], id)
}

func caHashMatches(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 2, 2, "[!] ca-hash-matches FILE CA")
	o, err := oracle()
	if err != nil {
		ts.Logf("not compared: %v", err)
		return
	}
	want, err := o.Hash([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	hash, _, secure := strings.Cut(strings.TrimPrefix(readToken(ts, args[0]), "K10"), "::")
	if !secure || (hash == want) == neg {
		ts.Fatalf("the token in %s has CA hash %s, that of %s is %s", args[0], hash, args[1], want)
	}
}

func authenticates(ts *testscript.TestScript, neg bool, args []string) {
	const text = "authenticates FILE as USER with GROUP... | ! authenticates FILE"
	if neg != (len(args) == 1) || !neg && (len(args) < 4 || args[1] != "as" || args[3] != "with") {
		ts.Fatalf("usage: %s", text)
	}
	admin, err := clientcmd.BuildConfigFromFlags("", scriptServer(ts).Kubeconfig)
	ts.Check(err)
	config := rest.AnonymousClientConfig(admin)
	config.BearerToken = readBootstrapToken(ts, args[0])
	client, err := authenticationv1client.NewForConfig(config)
	ts.Check(err)
	eventually(ts, func() error {
		review, err := client.SelfSubjectReviews().Create(context.Background(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		switch {
		case neg && apierrors.IsUnauthorized(err):
			return nil
		case neg || err != nil:
			return fmt.Errorf("the API takes the token: %v: %w", err == nil, err)
		}
		user := review.Status.UserInfo
		groups := slices.DeleteFunc(user.Groups, func(group string) bool { // those of every bootstrap token
			return group == "system:authenticated" || group == "system:bootstrappers"
		})
		if user.Username != args[2] || !slices.Equal(groups, args[4:]) {
			return fmt.Errorf("the token authenticates as %s in %v", user.Username, groups)
		}
		return nil
	})
}

func k3sValidates(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 1, "[!] k3s-validates FILE")
	server, token := scriptServer(ts), readToken(ts, args[0])
	validate := func() error { // the part of it that the server does
		status, err := server.Supervisor(context.Background(), k3stest.TokenCredentials(token), http.MethodGet, server.ReadyPath())
		ts.Check(err)
		if status != http.StatusOK {
			return k3stest.OracleError(http.StatusText(status))
		}
		return nil
	}
	if o, err := oracle(); err == nil {
		validate = func() error { return o.Validate(server.SupervisorURL, token, server.ReadyPath()) }
	}
	eventually(ts, func() error {
		err := validate()
		var refused k3stest.OracleError
		if err != nil && !errors.As(err, &refused) {
			ts.Fatalf("%v", err)
		}
		if (err != nil) != neg {
			return fmt.Errorf("K3s takes the token: %v: %w", err == nil, err)
		}
		return nil
	})
}

func mode(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 2, 2, "mode FILE MODE")
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, args, 2, 2, "await FILE PATTERN")
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	eventually(ts, func() error {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && !pattern.Match(content) {
			err = fmt.Errorf("%s does not match %s:\n%s", args[0], args[1], content)
		}
		return err
	})
}
