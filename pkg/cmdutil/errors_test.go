package cmdutil_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

var (
	secrets   = schema.GroupResource{Resource: "secrets"}
	forbidden = apierrors.NewForbidden(secrets, "x", fmt.Errorf("%s %q cannot get resource", "User", "jane"))
	notFound  = apierrors.NewNotFound(secrets, "bootstrap-token-aaaaaa")
)

func request(err error) error {
	return &url.Error{Op: "Get", URL: "https://k3s.example.com:6443/version", Err: err}
}

// TestErrorsReadAsInKubectl has the words of StandardErrorMessage in
// k8s.io/kubectl/pkg/cmd/util.
func TestErrorsReadAsInKubectl(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want string // lines that end with "hint: " may go on
	}{
		"RBAC":            {forbidden, "Error from server (Forbidden): " + forbidden.Error() + "\nhint: the Role for each command is in https://github.com/"},
		"not found":       {&bootstrap.UncertainError{Err: notFound}, `Error from server (NotFound): secrets "bootstrap-token-aaaaaa" not found` + "\n"},
		"refused":         {request(syscall.ECONNREFUSED), "The connection to the server k3s.example.com:6443 was refused - did you specify the right host or port?\n"},
		"not valid now":   {request(x509.CertificateInvalidError{Reason: x509.Expired, Detail: "noon"}), "Unable to connect to the server: x509: certificate has expired or is not yet valid: noon\nhint: check this machine's clock"},
		"the reader left": {errors.Join(&fs.PathError{Op: "write", Err: syscall.EPIPE}, errors.New("a")), "error: a\n"},
		"escapes":         {errors.New("a\x1b[2J"), "error: a^[[2J\n"},
		"interrupted":     {request(context.Canceled), "error: interrupted\n"},
		"joined":          {errors.Join(errors.New("a"), errors.Join(errors.New("b"), errors.New("a"), nil)), "error: a\nerror: b\n"},
		"advice":          {fmt.Errorf("while: %w", hint.Wrap(errors.New("a"), "do %s", "b")), "error: while: a\nhint: do b\n"},
		"a token":         {fmt.Errorf("denied: abcdef.%s. %q and %s", secret, secure, "K10::server:hunter2"), "error: denied: <token>. \"<token>\" and <token>\n"},
	} {
		got := report(test.err)
		if exact := !strings.Contains(test.want, "hint: ") || strings.HasSuffix(test.want, "\n"); exact && got != test.want || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got\n%swant\n%s", name, got, test.want)
		}
	}
}

func TestABatchNamesTheTokensThatFailed(t *testing.T) {
	t.Parallel()
	failures := map[string]error{
		"aaaaaa": notFound, "bbbbbb": errors.New("plain"), "cccccc": context.Canceled,
		"dddddd": &bootstrap.UncertainError{Err: request(io.EOF)}, "zzzzzz": nil,
	}
	var tokens []*bootstrap.Token
	for _, id := range slices.Sorted(maps.Keys(failures)) {
		tokens = append(tokens, &bootstrap.Token{Token: token.Token{ID: id}, SecretName: "bootstrap-token-" + id})
	}
	for _, ignore := range []bool{false, true} {
		batch := &cmdutil.Batch{Done: "deleted", IgnoreNotFound: ignore}
		changed := batch.Change(t.Context(), tokens, func(t *bootstrap.Token) error { return failures[t.ID] })
		if len(changed) != 1 || changed[0].ID != "zzzzzz" {
			t.Errorf("changed %v", changed)
		}
		got := report(batch.Err())
		has(t, got, "error: plain\n", "Unable to connect to the server: EOF\n", "error: interrupted: 1 token left unchanged\n", "error: 1 token not deleted: bbbbbb\n",
			"error: the answer was lost for 1 token, perhaps deleted: dddddd\nhint: look with: kubectl k3s-token list\n")
		if strings.Contains(got, "aaaaaa") == ignore {
			t.Errorf("got\n%s", got)
		}
	}
}
