package supervisor

import (
	"net"
	"testing"
)

// The resolver of a black-box test has one address a name, so this one looks at
// the dialer itself.
func TestAllConnectionsGoToTheAddressOfTheFirst(t *testing.T) {
	t.Parallel()
	var addresses []string
	for range 2 {
		tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tcp.Close() }()
		addresses = append(addresses, tcp.Addr().String())
	}
	d := &newClient(URL{}, "", Options{}).dialer
	if d.Timeout == 0 {
		t.Error("an address of a name that does not answer takes all the time")
	}
	for _, address := range addresses {
		conn, err := d.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := conn.RemoteAddr().String(); got != addresses[0] || d.pinned.Load().String() != addresses[0] {
			t.Errorf("dialled %s, want %s", got, addresses[0])
		}
	}
}
