package supervisor_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// The steps of a connection.
const (
	stepDownload = iota + 1
	stepHash
	stepCompare
	stepValidate
	stepCredentials
)

const incomplete = "gave no complete, valid answer"

// raw answers a path with a text of its own, which need not be HTTP.
func raw(path, text string) front {
	return func(w http.ResponseWriter, r *http.Request) bool {
		meant := strings.HasSuffix(r.URL.Path, path)
		if meant {
			hijack(w, text)
		}
		return meant
	}
}

// redirect sends those who ask for a path to another server.
func redirect(path string, target supervisor.URL) front {
	return raw(path, "HTTP/1.1 307 Go\r\nContent-Length: 0\r\nLocation: "+target.String()+path+"\r\n\r\n")
}

// named makes a certificate for names in place of 127.0.0.1.
func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = names, nil }
}

func TestHostileServersNeverSeeCredentials(t *testing.T) {
	t.Parallel()
	ours, evil := newCA(t, nil), newCA(t, nil)
	good, bad, intermediate := issue(t, ours), issue(t, evil), newCA(t, &ours)
	shown, appended := bundle(intermediate, ours), bundle(intermediate, ours, evil) // of the same hash
	expired := issue(t, ours, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	genuine := (&k3s{bundles: [][]byte{shown}, certs: []tls.Certificate{good}}).start(t)
	certs := func(certs ...tls.Certificate) func(*k3s) { return func(k *k3s) { k.certs = certs } }
	bundles := func(bundles ...[]byte) func(*k3s) { return func(k *k3s) { k.bundles = bundles } }
	another := func(k *k3s) { k.certs, k.bundles = []tls.Certificate{bad}, [][]byte{bundle(evil)} }
	withAppended := func(k *k3s) { k.certs, k.bundles = []tls.Certificate{good, bad}, [][]byte{appended} }
	fronted := func(f front) func(*k3s) { return func(k *k3s) { k.front = f } }
	huge := bytes.Repeat([]byte("#"), 64<<10)
	const ok = "HTTP/1.1 200 OK\r\n"
	const notSigned, status = "not signed by the trusted CA", "HTTP/1.1 %d Oops\r\nContent-Length: 0\r\n\r\n"
	for name, test := range map[string]struct {
		step   int
		says   string // in the error or its hint
		change func(*k3s)
	}{
		"another CA than the hash":                  {stepCompare, "the token is for another CA", another},
		"the real bundle, another CA's certificate": {stepValidate, notSigned, certs(bad)},
		"CA switched after the download":            {stepValidate, notSigned, certs(good, bad)},
		"CA switched to one in the bundle":          {stepValidate, notSigned, withAppended},
		"CA switched after the validation":          {stepCredentials, notSigned, certs(good, good, bad)},
		"CA switched before the credentials":        {stepCredentials, notSigned, certs(good, good, good, bad)},
		"bundle switched after the download":        {stepValidate, "CA bundle has changed", bundles(shown, bundle(evil))},
		"a certificate for another name":            {stepValidate, "not for 127.0.0.1", certs(issue(t, ours, named("s1.example", "\x1b[2J")))},
		"an expired certificate":                    {stepValidate, "has expired or is not valid", certs(expired)},
		"a redirect on /cacerts":                    {stepDownload, "answers with status 307", fronted(redirect("/cacerts", genuine.url))},
		"a redirect on readyz":                      {stepCredentials, "answers with status 307", fronted(redirect("/readyz", genuine.url))},
		"a bundle of more than 64 KiB":              {stepDownload, incomplete, bundles(append(huge, shown...))},
		"no PEM":                                    {stepHash, "/cacerts has no valid certificates", bundles([]byte("<html>hi</html>"))},
		"huge headers":                              {stepDownload, incomplete, fronted(raw("", ok+"X: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"))},
		"no HTTP":                                   {stepDownload, incomplete, fronted(raw("", "SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n"))},
		"cut in the body":                           {stepDownload, incomplete, fronted(raw("", ok+"Content-Length: 600\r\n\r\n-----BEGIN CERT"))},
		"a Kubernetes API":                          {stepDownload, "status 403", fronted(raw("", fmt.Sprintf(status, 403)))},
		"status 503 again and again":                {stepDownload, "status 503", fronted(raw("", fmt.Sprintf(status, 503)))},
		"readyz of another server":                  {stepCredentials, "not a running K3s supervisor", fronted(raw("/readyz", fmt.Sprintf(status, 403)))},
		"readyz of a server that starts":            {stepCredentials, "wait if it is starting", fronted(raw("/readyz", fmt.Sprintf(status, 401)))},
	} {
		t.Run(name, func(t *testing.T) {
			for credentials, role := range joining {
				k := &k3s{bundles: [][]byte{shown}, certs: []tls.Certificate{good}}
				test.change(k)
				report := supervisor.Verify(t.Context(), k.start(t).url, parse(t, genuine.hash, credentials), role, quick())
				if len(report.Steps) != test.step || report.Steps[test.step-1].Status != supervisor.Failed {
					t.Fatalf("got %+v, want an error of step %d", report, test.step)
				}
				if report.Verdict != supervisor.NotSent && (test.step < stepCredentials || report.Verdict != supervisor.NoAnswer) {
					t.Errorf("the verdict is %s", report.Verdict)
				}
				checkError(t, report.Err, test.says)
				k.sawNothing(t)
			}
		})
	}
	genuine.sawNothing(t)
}

func TestSilentServersAreBoundedByTheTimeoutAndTheContext(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	silent, opts := parseURL(t, "https://"+listener.Addr().String()), quick()
	someToken := parse(t, otherHash, serverPassword)
	opts.Timeout = 150 * time.Millisecond
	_, err = supervisor.Connect(t.Context(), silent, someToken, opts)
	checkError(t, err, "did not answer in time")
	ctx, cancel := context.WithCancel(t.Context())
	opts.Timeout = time.Minute
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := supervisor.Connect(ctx, silent, someToken, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a cancellation", err)
	}
}

func TestEchoedCredentialsDoNotGetIntoErrors(t *testing.T) {
	t.Parallel()
	for name, echo := range map[string]func(w http.ResponseWriter, secret string){
		"in a Status": func(w http.ResponseWriter, secret string) { sendStatus(w, http.StatusTeapot, secret) },
		"in a header": func(w http.ResponseWriter, secret string) {
			hijack(w, "HTTP/1.1 302 X\r\nLocation: http://%"+secret+"\r\n\r\n")
		},
		"as a status":    func(w http.ResponseWriter, secret string) { hijack(w, "HTTP/1.1 "+secret+" X\r\n\r\n") },
		"as an error ID": func(w http.ResponseWriter, secret string) { sendStatus(w, 500, "token error ID "+secret) },
	} {
		k := (&k3s{front: func(w http.ResponseWriter, r *http.Request) bool {
			header := r.Header.Get("Authorization")
			_, password, _ := r.BasicAuth()
			if header != "" {
				echo(w, cmp.Or(password, strings.TrimPrefix(header, "Bearer ")))
			}
			return header != ""
		}}).start(t)
		for credentials, role := range joining {
			report := supervisor.Verify(t.Context(), k.url, parse(t, k.hash, credentials), role, quick())
			if checkError(t, report.Err, ""); holdsSecret(fmt.Sprintf("%+v", report)) {
				t.Errorf("%s: the report holds a secret", name)
			}
		}
		_, err := k.connect(t, quick()).Rotate(t.Context(), newPassword)
		checkError(t, err, "")
	}
}
