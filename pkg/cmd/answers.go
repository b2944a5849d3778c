package cmd

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// longestWait is how long a server may have the client library wait before it
// asks again. It does so ten times, and says nothing meanwhile.
const longestWait = 30 * time.Second

// boundedWait brings Retry-After into the form that the client library obeys:
// whole seconds. One that asks for more than longestWait is taken out, so that
// the answer is an error at once.
type boundedWait struct {
	next http.RoundTripper
	now  func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (b boundedWait) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err != nil || response.Header.Get("Retry-After") == "" {
		return response, err
	}
	if wait, ok := b.wait(response.Header); ok && wait <= longestWait {
		response.Header.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	} else {
		response.Header.Del("Retry-After")
	}
	return response, nil
}

// wait returns how long the server wants to be left alone. A time is compared
// with the server's own where it tells that.
func (b boundedWait) wait(header http.Header) (time.Duration, bool) {
	after := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(after)
	if err != nil {
		return 0, false
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = b.now()
	}
	return max(at.Sub(now), 0), true
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper.
func (b boundedWait) WrappedRoundTripper() http.RoundTripper { return b.next }

// expiredLogin says what "Unauthorized" hides where the kubeconfig's client
// certificate has expired. Those of K3s are good for a year.
type expiredLogin struct {
	next   http.RoundTripper
	config *rest.Config
	env    *Env
	said   *sync.Once
}

// RoundTrip implements http.RoundTripper.
func (e expiredLogin) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := e.next.RoundTrip(r)
	if err == nil && response.StatusCode == http.StatusUnauthorized {
		if expired := certificateEnd(e.config); !expired.IsZero() && expired.Before(e.env.Now()) {
			e.said.Do(func() {
				e.env.warn("the client certificate of the kubeconfig has expired on %s: get a new kubeconfig from the server (K3s: restart it, then copy /etc/rancher/k3s/k3s.yaml)", expired.UTC().Format(time.RFC3339))
			})
		}
	}
	return response, err
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper.
func (e expiredLogin) WrappedRoundTripper() http.RoundTripper { return e.next }

// certificateEnd returns until when the client certificate of a configuration is
// valid, and the zero time where it has none that can be read.
func certificateEnd(config *rest.Config) time.Time {
	config = rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return time.Time{}
	}
	block, _ := pem.Decode(config.CertData)
	if block == nil {
		return time.Time{}
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return certificate.NotAfter
}
