package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	secretsPath  = "/api/v1/namespaces/kube-system/secrets"
	tokensQuery  = "?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken"
	secretPrefix = "bootstrap-token-"

	// settleTime is how long the server may take to act on what has changed:
	// it learns of a new token within milliseconds, and it forgets a token that
	// has authenticated only after its cache of ten seconds.
	settleTime = 20 * time.Second
)

// commands are what scripts have besides testscript's own commands. A file may
// be named "stdout" for what the last command printed.
//
//	secret-data ID KEY [VALUE]   print a field of the token's Secret, or compare it; with ! it must be absent
//	secret-keys ID KEY...        the Secret has exactly these fields
//	token-count N                the cluster has N bootstrap tokens
//	gone ID [TIMEOUT]            wait until the token's Secret is removed (default 30s); with ! it is there now
//	token-id FILE VAR            set the variable to the id of the token in the file
//	ca-hash-matches FILE CA      the token in the file has the hash that K3s computes of the CA file
//	authenticates FILE as USER with GROUP...   the API takes the token for this user and exactly these extra groups; with ! it refuses it
//	supervisor-accepts FILE      an agent with this token could join; with ! it could not
//	k3s-validates FILE [URL]     a joining node's own code accepts server and token; with ! it does not
//	apply FILE                   server-side apply of YAML or JSON documents, undone when the script ends
//	api METHOD PATH [FILE]       a request to the API as administrator, prints the answer; with ! it must be refused
//	kubeconfig FILE [--ca=data|trimmed|crlf|file|none] [--ca-data=PEM] [--server=URL] [--serviceaccount=NAME] [--exec=FILE] [--proxy-url=URL] [--context=NAME]
//	                             write another kubeconfig for the cluster
//	proxy [PATH]                 start a TLS proxy to the API with a CA of its own: $PROXY_URL, $PROXY_CA
//	connect-proxy                start an HTTP proxy: $CONNECT_PROXY
//	proxied-requests             it was used since the last look; with ! it was not
//	silence                      start a server that never says anything: $SILENT_URL
//	restart FILE                 restart the server with the server token in the file
//	terminal [-in=FILE] COMMAND ARG...   run on a terminal, which FILE types into; what it shows is stdout
//	mode FILE MODE               the file has these permissions, such as 0600
//	sleep DURATION
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"secret-data":        secretData,
	"secret-keys":        secretKeys,
	"token-count":        tokenCount,
	"gone":               gone,
	"token-id":           tokenID,
	"ca-hash-matches":    caHashMatches,
	"authenticates":      authenticates,
	"supervisor-accepts": supervisorAccepts,
	"k3s-validates":      k3sValidates,
	"apply":              apply,
	"api":                api,
	"kubeconfig":         kubeconfig,
	"proxy":              proxy,
	"connect-proxy":      startConnectProxy,
	"proxied-requests":   proxiedRequests,
	"silence":            silence,
	"restart":            restart,
	"terminal":           terminal,
	"mode":               mode,
	"sleep":              sleep,
}

func scriptServer(ts *testscript.TestScript) *k3stest.Server {
	return ts.Value(serverKey{}).(*k3stest.Server)
}

// usage fails the script unless it has between least and most arguments.
func usage(ts *testscript.TestScript, args []string, least, most int, text string) {
	if len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", text)
	}
}

// noNegation fails a script that negates what has no opposite.
func noNegation(ts *testscript.TestScript, neg bool, name string) {
	if neg {
		ts.Fatalf("unsupported: ! %s", name)
	}
}

// call sends a request as administrator. Statuses of 400 and up are errors.
func call(server *k3stest.Server, method, path, contentType string, body []byte) ([]byte, error) {
	status, answer, err := server.Admin(context.Background(), method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	if status >= http.StatusBadRequest {
		return answer, &refusal{status: status, text: fmt.Sprintf("%s %s: status %d: %s", method, path, status, message(answer))}
	}
	return answer, nil
}

// refusal is an answer of the API that is an error.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func isNotFound(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == http.StatusNotFound
}

// message is what a Status object says, and nothing of any other answer, which
// might hold secrets.
func message(answer []byte) string {
	var status struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &status) != nil || status.Kind != "Status" {
		return "(no Status)"
	}
	return status.Message
}

func deleteBootstrapTokens(server *k3stest.Server) error {
	_, err := call(server, http.MethodDelete, secretsPath+tokensQuery, "", nil)
	return err
}

// secret is the part of a Secret that scripts look at.
type secret struct {
	Data map[string][]byte `json:"data"`
}

func getSecret(ts *testscript.TestScript, id string) (secret, error) {
	answer, err := call(scriptServer(ts), http.MethodGet, secretsPath+"/"+url.PathEscape(secretPrefix+id), "", nil)
	if err != nil {
		return secret{}, err
	}
	var s secret
	return s, json.Unmarshal(answer, &s)
}

func secretData(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 2, 3, "[!] secret-data ID KEY [VALUE]")
	s, err := getSecret(ts, args[0])
	ts.Check(err)
	value, present := s.Data[args[1]]
	if neg {
		if len(args) == 3 {
			ts.Fatalf("unsupported: ! secret-data with a value")
		}
		if present {
			ts.Fatalf("the Secret of %s has a field %s", args[0], args[1])
		}
		return
	}
	if !present {
		ts.Fatalf("the Secret of %s has no field %s", args[0], args[1])
	}
	if len(args) == 2 {
		_, err := fmt.Fprintf(ts.Stdout(), "%s\n", value)
		ts.Check(err)
		return
	}
	if string(value) != args[2] {
		if args[1] == "token-secret" {
			ts.Fatalf("the Secret of %s has another %s", args[0], args[1])
		}
		ts.Fatalf("the Secret of %s has %s %q, want %q", args[0], args[1], value, args[2])
	}
}

func secretKeys(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "secret-keys")
	if len(args) == 0 {
		ts.Fatalf("usage: secret-keys ID KEY...")
	}
	s, err := getSecret(ts, args[0])
	ts.Check(err)
	have := make([]string, 0, len(s.Data))
	for key := range s.Data {
		have = append(have, key)
	}
	want := slices.Clone(args[1:])
	sort.Strings(have)
	sort.Strings(want)
	if !slices.Equal(have, want) {
		ts.Fatalf("the Secret of %s has the fields %v, want %v", args[0], have, want)
	}
}

func tokenCount(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "token-count")
	usage(ts, args, 1, 1, "token-count N")
	answer, err := call(scriptServer(ts), http.MethodGet, secretsPath+tokensQuery, "", nil)
	ts.Check(err)
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"items"`
	}
	ts.Check(json.Unmarshal(answer, &list))
	if strconv.Itoa(len(list.Items)) != args[0] {
		ts.Fatalf("the cluster has %d bootstrap tokens, want %s: %v", len(list.Items), args[0], list.Items)
	}
}

func gone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 2, "[!] gone ID [TIMEOUT]")
	patience := 30 * time.Second
	if len(args) == 2 {
		parsed, err := time.ParseDuration(args[1])
		ts.Check(err)
		patience = parsed
	}
	if neg {
		_, err := getSecret(ts, args[0])
		ts.Check(err)
		return
	}
	eventually(ts, patience, func() error {
		_, err := getSecret(ts, args[0])
		if err == nil {
			return fmt.Errorf("the Secret of %s is still there after %s", args[0], patience)
		}
		if !isNotFound(err) {
			ts.Fatalf("%v", err)
		}
		return nil
	})
}

// eventually tries a check until it holds, and fails the script with its last
// error when the time is up.
func eventually(ts *testscript.TestScript, patience time.Duration, check func() error) {
	deadline := time.Now().Add(patience)
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

func tokenID(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "token-id")
	usage(ts, args, 2, 2, "token-id FILE VAR")
	credentials := k3stest.TokenCredentials(readToken(ts, args[0]))
	id, _, ok := strings.Cut(credentials.Bearer, ".")
	if !ok {
		ts.Fatalf("%s does not hold a bootstrap token", args[0])
	}
	ts.Setenv(args[1], id)
}

func caHashMatches(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 2, 2, "[!] ca-hash-matches FILE CA")
	oracle, err := shared.tokenOracle()
	ts.Check(err)
	want, err := oracle.Hash([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	hash, _, secure := strings.Cut(strings.TrimPrefix(readToken(ts, args[0]), "K10"), "::")
	if !secure {
		ts.Fatalf("the token in %s is not in secure format", args[0])
	}
	if (hash == want) == neg {
		ts.Fatalf("the token in %s has CA hash %s, that of %s is %s", args[0], hash, args[1], want)
	}
}

func authenticates(ts *testscript.TestScript, neg bool, args []string) {
	const text = "authenticates FILE as USER with GROUP... | ! authenticates FILE"
	if neg {
		usage(ts, args, 1, 1, text)
	} else if len(args) < 4 || args[1] != "as" || args[3] != "with" {
		ts.Fatalf("usage: %s", text)
	}
	credentials := k3stest.TokenCredentials(readToken(ts, args[0]))
	if credentials.Bearer == "" {
		ts.Fatalf("%s does not hold a bootstrap token", args[0])
	}
	const review = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	eventually(ts, settleTime, func() error {
		status, answer, err := scriptServer(ts).API(context.Background(), credentials, http.MethodPost,
			"/apis/authentication.k8s.io/v1/selfsubjectreviews", "application/json", []byte(review))
		ts.Check(err)
		if neg {
			if status != http.StatusUnauthorized {
				return fmt.Errorf("the API answers %d to the token, want 401", status)
			}
			return nil
		}
		if status != http.StatusCreated {
			return fmt.Errorf("the API answers %d to the token: %s", status, message(answer))
		}
		return checkUser(answer, args[2], args[4:])
	})
}

// checkUser compares who the API says that we are with who we should be. Groups
// that every bootstrap token has need not be named.
func checkUser(answer []byte, user string, groups []string) error {
	var review struct {
		Status struct {
			UserInfo struct {
				Username string   `json:"username"`
				Groups   []string `json:"groups"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	if err := json.Unmarshal(answer, &review); err != nil {
		return err
	}
	info := review.Status.UserInfo
	want := append([]string{"system:authenticated", "system:bootstrappers"}, groups...)
	sort.Strings(want)
	sort.Strings(info.Groups)
	if info.Username != user || !slices.Equal(info.Groups, want) {
		return fmt.Errorf("the token authenticates as %s in %v, want %s in %v", info.Username, info.Groups, user, want)
	}
	return nil
}

func supervisorAccepts(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 1, "[!] supervisor-accepts FILE")
	server := scriptServer(ts)
	credentials := k3stest.TokenCredentials(readToken(ts, args[0]))
	want := http.StatusOK
	if neg {
		want = http.StatusUnauthorized
	}
	eventually(ts, settleTime, func() error {
		status, _, err := server.Supervisor(context.Background(), credentials, http.MethodGet, server.ReadyPath())
		ts.Check(err)
		if status != want {
			return fmt.Errorf("the supervisor answers %d to the token, want %d", status, want)
		}
		return nil
	})
}

func k3sValidates(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 1, 2, "[!] k3s-validates FILE [URL]")
	oracle, err := shared.tokenOracle()
	ts.Check(err)
	server := scriptServer(ts)
	target := server.SupervisorURL
	if len(args) == 2 {
		target = args[1]
	}
	token := readToken(ts, args[0])
	eventually(ts, settleTime, func() error {
		err := oracle.Validate(target, token, server.ReadyPath())
		var verdict k3stest.OracleError
		if err != nil && !errors.As(err, &verdict) {
			ts.Fatalf("%v", err)
		}
		switch {
		case err != nil && !neg:
			return fmt.Errorf("K3s refuses the token: %w", err)
		case err == nil && neg:
			return errors.New("K3s accepts the token")
		default:
			return nil
		}
	})
}

// clusterScoped are the kinds that scripts apply outside of any namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "Namespace", "Node"}

func apply(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "apply")
	usage(ts, args, 1, 1, "apply FILE")
	server := scriptServer(ts)
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(ts.ReadFile(args[0])), 4096)
	for {
		var document json.RawMessage
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			ts.Fatalf("%s: %v", args[0], err)
		}
		if len(document) == 0 || string(document) == "null" {
			continue // nothing but comments between two separators
		}
		path, err := objectPath(document)
		ts.Check(err)
		_, err = call(server, http.MethodPatch, path+"?fieldManager=e2e&force=true", "application/apply-patch+yaml", document)
		ts.Check(err)
		ts.Defer(func() {
			if _, err := call(server, http.MethodDelete, path, "", nil); err != nil && !isNotFound(err) {
				ts.Logf("clean up: %v", err)
			}
		})
	}
}

// objectPath is the API's path of an object; kube-system is its namespace if
// the object names none.
func objectPath(document []byte) (string, error) {
	var object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(document, &object); err != nil {
		return "", err
	}
	if object.APIVersion == "" || object.Kind == "" || object.Metadata.Name == "" {
		return "", errors.New("the object lacks apiVersion, kind or metadata.name")
	}
	path := "/api/"
	if strings.Contains(object.APIVersion, "/") {
		path = "/apis/"
	}
	path += object.APIVersion
	if !slices.Contains(clusterScoped, object.Kind) {
		namespace := object.Metadata.Namespace
		if namespace == "" {
			namespace = "kube-system"
		}
		path += "/namespaces/" + namespace
	}
	return path + "/" + strings.ToLower(object.Kind) + "s/" + url.PathEscape(object.Metadata.Name), nil
}

func api(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, args, 2, 3, "[!] api METHOD PATH [FILE]")
	var body []byte
	contentType := ""
	if len(args) == 3 {
		body = []byte(ts.ReadFile(args[2]))
		contentType = "application/json"
		if args[0] == http.MethodPatch {
			contentType = "application/merge-patch+json"
		}
	}
	answer, err := call(scriptServer(ts), args[0], args[1], contentType, body)
	var refused *refusal
	if err != nil && !errors.As(err, &refused) {
		ts.Fatalf("%v", err)
	}
	if neg != (refused != nil) {
		ts.Fatalf("%s %s: refused: %v, want %v: %v", args[0], args[1], refused != nil, neg, err)
	}
	_, err = ts.Stdout().Write(answer)
	ts.Check(err)
}

func restart(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "restart")
	usage(ts, args, 1, 1, "restart FILE")
	server := scriptServer(ts)
	ts.Check(server.SetToken(k3stest.TokenCredentials(readToken(ts, args[0])).Password))
	ts.Check(server.Restart(context.Background()))
}

func terminal(ts *testscript.TestScript, neg bool, args []string) {
	input := ""
	if len(args) > 0 {
		if file, ok := strings.CutPrefix(args[0], "-in="); ok {
			input, args = ts.ReadFile(file), args[1:]
		}
	}
	if len(args) == 0 {
		ts.Fatalf("usage: [!] terminal [-in=FILE] COMMAND ARG...")
	}
	shown, err := onTerminal(ts, input, args)
	_, writeErr := io.WriteString(ts.Stdout(), shown)
	ts.Check(writeErr)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if neg != (err != nil) {
		ts.Fatalf("%s: %v; on the terminal:\n%s", args[0], err, shown)
	}
}

// onTerminal runs a command with all of its streams on a pseudo-terminal and
// returns what that shows, with line ends as in a file.
func onTerminal(ts *testscript.TestScript, input string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path, err := lookPath(args[0], ts.Getenv("PATH"))
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, path, args[1:]...)
	command.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "KUBECONFIG", "TMPDIR", "K3S_TOKEN", "K3S_URL", "NO_COLOR"} {
		if value := ts.Getenv(name); value != "" {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	command.Env = append(command.Env, "TERM=xterm")
	screen, err := pty.StartWithSize(command, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		return "", err
	}
	defer screen.Close()
	if _, err := io.WriteString(screen, input); err != nil {
		return "", err
	}
	var shown bytes.Buffer
	// The read ends with an error when the command has closed the terminal.
	_, _ = io.Copy(&shown, screen)
	err = command.Wait()
	return strings.ReplaceAll(shown.String(), "\r\n", "\n"), err
}

// lookPath finds a command on the script's PATH, not on the test's own.
func lookPath(name, path string) (string, error) {
	for _, dir := range strings.Split(path, string(os.PathListSeparator)) {
		if found, err := exec.LookPath(dir + string(os.PathSeparator) + name); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s is not on the script's PATH", name)
}

func mode(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "mode")
	usage(ts, args, 2, 2, "mode FILE MODE")
	want, err := strconv.ParseUint(args[1], 8, 32)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if info.Mode().Perm() != os.FileMode(want) {
		ts.Fatalf("%s has mode %#o, want %#o", args[0], info.Mode().Perm(), want)
	}
}

func sleep(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg, "sleep")
	usage(ts, args, 1, 1, "sleep DURATION")
	duration, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(duration)
}

// storedToken is a token as the cluster has it.
type storedToken struct{ secret, description, expiration string }

// storedTokens asks the server itself for the tokens that it has, by their ids.
func storedTokens(server *k3stest.Server) (map[string]storedToken, error) {
	answer, err := call(server, http.MethodGet, secretsPath+tokensQuery, "", nil)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Data map[string][]byte `json:"data"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, err
	}
	tokens := map[string]storedToken{}
	for _, item := range list.Items {
		tokens[strings.TrimPrefix(item.Metadata.Name, secretPrefix)] = storedToken{
			secret:      string(item.Data["token-secret"]),
			description: string(item.Data["description"]),
			expiration:  string(item.Data["expiration"]),
		}
	}
	return tokens, nil
}
