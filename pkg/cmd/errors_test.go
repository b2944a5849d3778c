package cmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
)

// TestReport has kubectl's own words (StandardErrorMessage of
// k8s.io/kubectl/pkg/cmd/util) for the errors of an API.
func TestReport(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	forbidden := apierrors.NewForbidden(secrets, "x", errors.New("you may not"))
	notFound := apierrors.NewNotFound(secrets, "x")
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, "x", field.ErrorList{
		field.Required(field.NewPath("data"), "say something"), field.TooLong(field.NewPath("type"), "", 3),
	})
	bare := apierrors.NewInvalid(schema.GroupKind{}, "", nil)
	bare.ErrStatus.Details = nil
	bare.ErrStatus.Message = "just so"
	request := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://k3s.example.com:6443/version", Err: err}
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	certificate := &x509.Certificate{NotBefore: time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2031, 1, 31, 0, 0, 0, 0, time.UTC)}
	const (
		forbiddenLine = `Error from server (Forbidden): secrets "x" is forbidden: you may not`
		notFoundLine  = `Error from server (NotFound): secrets "x" not found`
		refusedLine   = "The connection to the server k3s.example.com:6443 was refused - did you specify the right host or port?"
	)
	hint := "hint: the Role for this command is in " + rbacDoc
	tests := map[string]struct {
		err  error
		want []string
	}{
		"plain":                {errors.New("something"), []string{"error: something"}},
		"with its own prefix":  {errors.New("error: something"), []string{"error: something"}},
		"forbidden":            {forbidden, []string{forbiddenLine, hint}},
		"wrapped":              {fmt.Errorf("while creating: %w", forbidden), []string{forbiddenLine, hint}},
		"wrapped twice":        {fmt.Errorf("a: %w", fmt.Errorf("b: %w", notFound)), []string{notFoundLine}},
		"uncertain":            {&bootstrap.UncertainError{Err: notFound}, []string{notFoundLine}},
		"not found":            {notFound, []string{notFoundLine}},
		"unauthorized":         {apierrors.NewUnauthorized("Unauthorized"), []string{"error: You must be logged in to the server (Unauthorized)"}},
		"conflict":             {apierrors.NewConflict(secrets, "x", errors.New("changed")), []string{`Error from server (Conflict): Operation cannot be fulfilled on secrets "x": changed`}},
		"without a reason":     {&apierrors.StatusError{ErrStatus: metav1.Status{Message: "teapot"}}, []string{"Error from server: teapot"}},
		"too many requests":    {apierrors.NewTooManyRequests("slow down", 1), []string{"Error from server (TooManyRequests): slow down"}},
		"server timeout":       {apierrors.NewTimeoutError("too late", 1), []string{"Error from server (Timeout): Timeout: too late"}},
		"no API":               {apierrors.NewGenericServerResponse(http.StatusBadGateway, "get", secrets, "x", "unknown", 0, true), []string{"Error from server (InternalError): an error on the server (\"unknown\") has prevented the request from succeeding (get secrets x)"}},
		"invalid":              {invalid, []string{`The Secret "x" is invalid: data: Required value: say something; type: Too long: may not be more than 3 bytes`}},
		"invalid without kind": {bare, []string{"The request is invalid: just so"}},
		"refused":              {request(refused), []string{refusedLine}},
		"refused, wrapped":     {fmt.Errorf("list: %w", request(refused)), []string{refusedLine}},
		"refused by its text":  {request(errors.New("proxy: connection refused")), []string{refusedLine}},
		"unknown CA":           {request(x509.UnknownAuthorityError{}), []string{"Unable to connect to the server: x509: certificate signed by unknown authority"}},
		"not valid now": {request(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Cert: certificate, Reason: x509.Expired, Detail: "it is noon"}}), []string{
			"Unable to connect to the server: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: it is noon",
			"hint: check this machine's clock; a certificate on the way to the server is valid from 2030-01-31T00:00:00Z to 2031-01-31T00:00:00Z: if that is over, restart the server, which renews its certificates",
		}},
		"not valid otherwise":   {request(x509.CertificateInvalidError{Cert: certificate, Reason: x509.NotAuthorizedToSign}), []string{"Unable to connect to the server: x509: certificate is not authorized to sign other certificates"}},
		"timeout":               {request(context.DeadlineExceeded), []string{"Unable to connect to the server: context deadline exceeded"}},
		"no such host":          {request(&net.DNSError{Err: "no such host", Name: "nowhere", IsNotFound: true}), []string{"Unable to connect to the server: lookup nowhere: no such host"}},
		"empty kubeconfig":      {clientcmd.ErrEmptyConfig, []string{"error: " + clientcmd.ErrEmptyConfig.Error()}},
		"joined":                {errors.Join(errors.New("a"), notFound, errors.Join(errors.New("b"), nil, errors.New("c"))), []string{"error: a", notFoundLine, "error: b", "error: c"}},
		"joined, said twice":    {errors.Join(forbidden, fmt.Errorf("again: %w", forbidden), errors.New("a"), errors.New("a")), []string{forbiddenLine, hint, "error: a"}},
		"a joined one, wrapped": {fmt.Errorf("both: %w", errors.Join(errors.New("a"), errors.New("b"))), []string{"error: both: a\nb"}},
		"no CA":                 {&cluster.NoCAError{ConfigMap: forbidden}, []string{forbiddenLine, hint, "error: " + (&cluster.NoCAError{}).Error()}},
		"output":                {&outputError{syscall.ENOSPC}, []string{"error: standard output: no space left on device"}},
		"reader gone":           {&outputError{syscall.EPIPE}, nil},
		"reader gone, and more": {errors.Join(&outputError{syscall.EPIPE}, errors.New("a")), []string{"error: a"}},
		"undelivered":           {undelivered(&outputError{syscall.EPIPE}), []string{"error: the token could not be written out: standard output: broken pipe"}},
		"interrupted":           {Interrupted{130}, []string{"error: interrupted"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := report(test.err); !slices.Equal(got, test.want) {
				t.Errorf("it says\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
			}
		})
	}
}

func TestFailuresOfManyTokens(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "x", errors.New("no"))
	connection := &url.Error{Op: "Delete", URL: "https://example.com/abcdef", Err: io.EOF}
	strict, lenient := &failures{done: "deleted"}, &failures{done: "deleted", ignoreNotFound: true}
	if !strict.add("abcdef", nil) || strict.err() != nil {
		t.Error("a success is a failure")
	}
	for _, f := range []*failures{strict, lenient} {
		for i, err := range []error{
			apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "bootstrap-token-id0000"),
			errors.New("plain"),
			Interrupted{130},
			Interrupted{130},
			fmt.Errorf("Delete: %w", context.Canceled),
			&bootstrap.UncertainError{Err: connection},
			&bootstrap.UncertainError{Err: forbidden},
			connection,
			&bootstrap.UntriedError{Err: connection},
			apierrors.NewInternalError(errors.New("no")),
			&bootstrap.UncertainError{Err: Interrupted{130}},
		} {
			if f.add(fmt.Sprintf("id%04d", i), err) {
				t.Errorf("%v is a success", err)
			}
		}
	}
	tail := []string{
		`error: token "id0001": plain`,
		"Unable to connect to the server: EOF",
		`Error from server (Forbidden): secrets "x" is forbidden: no`,
		"hint: the Role for this command is in " + rbacDoc,
		`Error from server (InternalError): Internal error occurred: no`,
		"error: 3 tokens not deleted: id0007 id0008 id0009",
		"error: no answer told whether 2 tokens were deleted, see with list: id0005 id0006",
		"error: interrupted: 2 tokens left as they were",
		"error: interrupted before the server answered for 2 tokens, see with list what became of them: id0004 id0010",
	}
	notFoundLine := `Error from server (NotFound): secrets "bootstrap-token-id0000" not found`
	if got, want := report(strict.err()), append([]string{notFoundLine}, tail...); !slices.Equal(got, want) {
		t.Errorf("it says\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	if got := report(lenient.err()); !slices.Equal(got, tail) {
		t.Errorf("where tokens that are not there do not count, it says\n\t%s", strings.Join(got, "\n\t"))
	}
}
