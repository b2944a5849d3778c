// Package faultproxy spoils what goes between a client and a server, for tests
// of what the client then says: a TCP proxy on toxiproxy, for what networks do
// to bytes, and an HTTPS proxy, for what servers and load balancers do to
// requests. Both listen on the loopback interface only.
package faultproxy

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// The directions that bytes take.
const (
	ToServer = "upstream"
	ToClient = "downstream"
)

// Fault is one of toxiproxy's toxics, or the one of [Cut].
type Fault struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]any `json:"attributes"`
}

// Latency delays each byte by so many milliseconds, give or take jitter.
func Latency(direction string, milliseconds, jitter int) Fault {
	return Fault{"latency", direction, 1, map[string]any{"latency": milliseconds, "jitter": jitter}}
}

// Bandwidth lets so many kilobytes through in a second.
func Bandwidth(direction string, kilobytes int) Fault {
	return Fault{"bandwidth", direction, 1, map[string]any{"rate": kilobytes}}
}

// Slice cuts what is sent into packets of about so many bytes, so many
// microseconds apart.
func Slice(direction string, bytes, delay int) Fault {
	return Fault{"slicer", direction, 1, map[string]any{"average_size": bytes, "size_variation": bytes / 2, "delay": delay}}
}

// SlowClose closes connections so many milliseconds late.
func SlowClose(direction string, milliseconds int) Fault {
	return Fault{"slow_close", direction, 1, map[string]any{"delay": milliseconds}}
}

// ResetPeer resets each connection so many milliseconds after its first byte,
// none of which comes through.
func ResetPeer(direction string, milliseconds int) Fault {
	return Fault{"reset_peer", direction, 1, map[string]any{"timeout": milliseconds}}
}

// HalfOpen lets nothing through and closes nothing.
func HalfOpen(direction string) Fault {
	return Fault{"timeout", direction, 1, map[string]any{"timeout": 0}}
}

// LimitData closes each connection after so many bytes.
func LimitData(direction string, bytes int) Fault {
	return Fault{"limit_data", direction, 1, map[string]any{"bytes": bytes}}
}

// How a cut connection ends.
const (
	Close  = "close"  // in the usual way
	Silent = "silent" // not at all: what follows is lost
)

// Cut ends the first connections after so many bytes. Those that follow are
// well, as after a network has recovered.
func Cut(direction string, bytes, connections int, how string) Fault {
	return Fault{cutType, direction, 1, map[string]any{"bytes": bytes, "connections": connections, "how": how}}
}

// Abruptly turns the end of each connection into a reset, which also loses what
// is still on its way.
func Abruptly(direction string) Fault {
	// The toxic sets this for each connection, whether it then acts or not.
	return Fault{"reset_peer", direction, 0, map[string]any{"timeout": 0}}
}

const cutType = "k3stest_cut"

// cut is the toxic behind [Cut].
type cut struct {
	Bytes       int64  `json:"bytes"`
	Connections int64  `json:"connections"`
	How         string `json:"how"`

	seen, passed atomic.Int64
}

// cutState is what the toxic knows of one connection.
type cutState struct {
	spared bool
	passed int64
}

// NewState implements toxics.StatefulToxic: it is called for each connection.
func (c *cut) NewState() any { return &cutState{spared: c.seen.Add(1) > c.Connections} }

// Pipe implements toxics.Toxic.
func (c *cut) Pipe(stub *toxics.ToxicStub) {
	state := stub.State.(*cutState)
	for {
		if !state.spared && c.How != Silent && state.passed >= c.Bytes {
			stub.Close()
			return
		}
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil {
				stub.Close()
				return
			}
			if !state.spared {
				chunk = &stream.StreamChunk{Data: chunk.Data[:min(int64(len(chunk.Data)), c.Bytes-state.passed)], Timestamp: chunk.Timestamp}
				state.passed += int64(len(chunk.Data))
			}
			if len(chunk.Data) > 0 {
				c.passed.Add(int64(len(chunk.Data)))
				stub.Output <- chunk
			}
		}
	}
}

// registerCut makes toxiproxy know the toxic.
var registerCut = sync.OnceFunc(func() { toxics.Register(cutType, new(cut)) })

// TCP is a proxy for TCP connections.
type TCP struct {
	// Addr is where it listens.
	Addr string

	proxy *toxiproxy.Proxy
}

// StartTCP starts a proxy that connects to the server's address and has the
// faults from its first connection on. It is gone when the test is over.
func StartTCP(t testing.TB, server string, faults ...Fault) *TCP {
	t.Helper()
	registerCut()
	proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), t.Name(), "127.0.0.1:0", server)
	p := &TCP{proxy: proxy}
	for i, fault := range faults {
		p.add(t, fmt.Sprintf("%s-%d", fault.Type, i), fault)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	p.Addr = proxy.Listen
	t.Cleanup(p.Stop)
	return p
}

func (p *TCP) add(t testing.TB, name string, fault Fault) {
	t.Helper()
	toxic, err := json.Marshal(struct {
		Name string `json:"name"`
		Fault
	}{name, fault})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(toxic))); err != nil {
		t.Fatalf("%s: %v", fault.Type, err)
	}
}

// Passed returns how many bytes have come through a [Cut] in that direction.
func (p *TCP) Passed(direction string) int {
	for _, toxic := range p.proxy.Toxics.GetToxicArray() {
		wrapper, ok := toxic.(*toxics.ToxicWrapper)
		if !ok || wrapper.Stream != direction {
			continue
		}
		if c, ok := wrapper.Toxic.(*cut); ok {
			return int(c.passed.Load())
		}
	}
	return 0
}

// Stop closes the proxy and all of its connections.
func (p *TCP) Stop() { p.proxy.Stop() }
