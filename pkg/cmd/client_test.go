package cmd

import (
	"net/http"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// How deep the client library has buried its transport is its own affair.
func TestTheWindowOfTheClientLibrarysTransportIsSmall(t *testing.T) {
	var found *http.Transport
	config := &rest.Config{Host: "https://127.0.0.1:1", TLSClientConfig: rest.TLSClientConfig{ServerName: "window"}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		next = smallWindow(next)
		bare := next
		for {
			wrapper, ok := bare.(utilnet.RoundTripperWrapper)
			if !ok {
				break
			}
			bare = wrapper.WrappedRoundTripper()
		}
		found, _ = bare.(*http.Transport)
		return next
	})
	if _, err := rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	if found == nil || found.HTTP2 == nil || found.HTTP2.MaxReceiveBufferPerStream != 1<<20 {
		t.Errorf("the transport is %+v", found)
	}
}
