package cmdutil_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
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
		"plain":             {errors.New("error: something"), "error: something\n"},
		"RBAC":              {forbidden, "Error from server (Forbidden): " + forbidden.Error() + "\nhint: the Role for each command is in https://github.com/"},
		"quota":             {apierrors.NewForbidden(secrets, "x", errors.New("exceeded quota: q")), `Error from server (Forbidden): secrets "x" is forbidden: exceeded quota: q` + "\n"},
		"admission":         {apierrors.NewForbidden(secrets, "x", errors.New(`policy "p" denied it`)), `Error from server (Forbidden): secrets "x" is forbidden: policy "p" denied it` + "\n"},
		"not found":         {&bootstrap.UncertainError{Err: notFound}, `Error from server (NotFound): secrets "bootstrap-token-aaaaaa" not found` + "\n"},
		"unauthorized":      {apierrors.NewUnauthorized("Unauthorized"), "error: You must be logged in to the server (Unauthorized)\n"},
		"no reason":         {&apierrors.StatusError{ErrStatus: metav1.Status{Message: "tea\x1b[31mpot"}}, "Error from server: tea^[[31mpot\n"},
		"refused":           {request(syscall.ECONNREFUSED), "The connection to the server k3s.example.com:6443 was refused - did you specify the right host or port?\n"},
		"cut":               {request(syscall.EPIPE), "Unable to connect to the server: broken pipe\n"},
		"not valid now":     {request(x509.CertificateInvalidError{Reason: x509.Expired, Detail: "noon"}), "Unable to connect to the server: x509: certificate has expired or is not yet valid: noon\nhint: check this machine's clock"},
		"not valid":         {request(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), "Unable to connect to the server: x509: certificate is not authorized to sign other certificates\n"},
		"the reader left":   {errors.Join(&fs.PathError{Op: "write", Err: syscall.EPIPE}, errors.New("a")), "error: a\n"},
		"interrupted":       {request(context.Canceled), "error: interrupted\n"},
		"joined":            {errors.Join(errors.New("a"), errors.Join(errors.New("b"), errors.New("a"), nil)), "error: a\nerror: b\n"},
		"advice":            {fmt.Errorf("while: %w", cmdutil.WithHint(errors.New("a"), "do %s", "b")), "error: while: a\nhint: do b\n"},
		"a token":           {fmt.Errorf("denied: abcdef.%s. %q and %s", secret, secure, "K10::server:hunter2"), "error: denied: <token>. \"<token>\" and <token>\n"},
		"names are no such": {errors.New("bootstrap-token-abcdef at a.example.com/kube-system.0123456789abcdef0"), "error: bootstrap-token-abcdef at a.example.com/kube-system.0123456789abcdef0\n"},
	} {
		got := report(test.err)
		if exact := !strings.Contains(test.want, "hint: ") || strings.HasSuffix(test.want, "\n"); exact && got != test.want || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got\n%swant\n%s", name, got, test.want)
		}
	}
}

func TestFailuresNameTheTokensAndTellHowToLook(t *testing.T) {
	t.Parallel()
	for _, ignore := range []bool{false, true} {
		f := &cmdutil.Failures{Done: "deleted", IgnoreNotFound: ignore}
		if !f.Add("zzzzzz", nil) || f.Err() != nil {
			t.Error("a success is a failure")
		}
		for id, err := range map[string]error{
			"aaaaaa": notFound, "bbbbbb": errors.New("plain"), "cccccc": context.Canceled,
			"dddddd": &bootstrap.UncertainError{Err: request(io.EOF)}, "eeeeee": &bootstrap.UncertainError{Err: context.Canceled},
		} {
			if f.Add(id, err) {
				t.Errorf("%v is a success", err)
			}
		}
		got := report(f.Err())
		has(t, got, "error: plain\n", "error: 1 token not deleted: bbbbbb\n", "Unable to connect to the server: EOF\n",
			"error: the answer was lost for 2 tokens, perhaps deleted: ", "dddddd", "eeeeee",
			"hint: look with: kubectl k3s-token list\n", "error: interrupted: 1 token left unchanged\n")
		if strings.Contains(got, "aaaaaa") == ignore || strings.Contains(got, "cccccc") {
			t.Errorf("got\n%s", got)
		}
	}
}
