package cluster_test

import (
	"errors"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
)

// answering is a transport whose answers take some time, and say of the
// server's clock what the header says.
type answering struct {
	mine   *time.Time
	takes  time.Duration
	header http.Header
	err    error
}

func (a *answering) RoundTrip(*http.Request) (*http.Response, error) {
	*a.mine = a.mine.Add(a.takes)
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{Header: a.header, Body: http.NoBody}, nil
}

func dated(t time.Time) http.Header {
	return http.Header{"Date": {t.UTC().Format(http.TimeFormat)}}
}

func ask(t *testing.T, transport http.RoundTripper) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://k3s.example.com/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := transport.RoundTrip(request); err == nil {
		_ = response.Body.Close()
	}
}

func TestClockGoesByTheServerWhereTheyDifferByMoreThanAMinute(t *testing.T) {
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		date  time.Time // the server's time when half of the round trip is over, cut to its second
		takes time.Duration
		want  time.Duration
	}{
		"the same":                        {now, 0, 0},
		"a minute ahead":                  {now.Add(time.Minute), 0, 0},
		"a minute behind":                 {now.Add(-time.Minute - time.Second), 0, 0},
		"a second more ahead":             {now.Add(61 * time.Second), 0, 61*time.Second + 500*time.Millisecond},
		"a second more behind":            {now.Add(-62 * time.Second), 0, -62*time.Second + 500*time.Millisecond},
		"a day ahead":                     {now.Add(day), 0, day + 500*time.Millisecond},
		"a day behind":                    {now.Add(-day), 0, -day + 500*time.Millisecond},
		"a day ahead, from far away":      {now.Add(day + time.Second), 2 * time.Second, day + 500*time.Millisecond},
		"a slow answer is no wrong clock": {now.Add(5 * time.Minute), 5 * time.Minute, 0},
		"nor one that was dated early":    {now, 5 * time.Minute, 0},
		"a server without a battery":      {time.Unix(0, 0), 0, time.Unix(0, 0).Sub(now) + 500*time.Millisecond},
		"a date that is none":             {time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), 0, math.MinInt64},
		"a date beyond all measure":       {time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), 0, math.MaxInt64},
	} {
		mine := now
		clock := cluster.NewClock(func() time.Time { return mine })
		ask(t, clock.Observe(&answering{mine: &mine, takes: test.takes, header: dated(test.date)}))
		if got := clock.Skew(); got != test.want {
			t.Errorf("%s: the server is %v ahead, want %v", name, got, test.want)
		}
		if got := clock.Now(); !got.Equal(mine.Add(test.want)) {
			t.Errorf("%s: it is %v, want %v", name, got, mine.Add(test.want))
		}
	}
}

func TestClockGoesByThisMachineWhereTheServerSaysNothing(t *testing.T) {
	for name, transport := range map[string]*answering{
		"no date":         {header: http.Header{}},
		"no time":         {header: http.Header{"Date": {"tomorrow"}}},
		"from a cache":    {header: http.Header{"Date": dated(now.Add(-48 * time.Hour))["Date"], "Age": {"172800"}}},
		"no answer":       {err: errors.New("no route to host")},
		"an empty header": {},
	} {
		mine := now
		transport.mine = &mine
		clock := cluster.NewClock(func() time.Time { return mine })
		ask(t, clock.Observe(transport))
		if got := clock.Now(); !got.Equal(now) || clock.Skew() != 0 {
			t.Errorf("%s: it is %v, want %v", name, got, now)
		}
	}
}

// The first request also sets up the connection.
func TestClockTakesTheWordOfTheQuickestAnswer(t *testing.T) {
	mine := now
	clock := cluster.NewClock(func() time.Time { return mine })
	for _, answer := range []struct {
		takes, date, want time.Duration
	}{
		{10 * time.Second, 105 * time.Second, 100*time.Second + 500*time.Millisecond},
		{2 * time.Second, 92 * time.Second, 91*time.Second + 500*time.Millisecond},
		{4 * time.Second, 500 * time.Second, 91*time.Second + 500*time.Millisecond}, // slower: not believed
		{time.Second, 0, 0}, // the server's clock was set right
	} {
		mine = now
		ask(t, clock.Observe(&answering{mine: &mine, takes: answer.takes, header: dated(now.Add(answer.date))}))
		if got := clock.Skew(); got != answer.want {
			t.Errorf("after an answer in %v: the server is %v ahead, want %v", answer.takes, got, answer.want)
		}
	}
}

func TestClockMayBeUsedBySeveral(t *testing.T) {
	clock := cluster.NewClock(func() time.Time { return now })
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			mine := now
			ask(t, clock.Observe(&answering{mine: &mine, header: dated(now.Add(time.Hour))}))
			clock.Now()
		})
	}
	running.Wait()
	if got := clock.Now(); !got.After(now.Add(time.Hour)) {
		t.Errorf("it is %v", got)
	}
}

// The client library looks for what can cancel a request below its wrappers.
func TestObservedTransportShowsWhatIsBelow(t *testing.T) {
	below := &http.Transport{}
	wrapped, ok := cluster.NewClock(time.Now).Observe(below).(utilnet.RoundTripperWrapper)
	if !ok || wrapped.WrappedRoundTripper() != below {
		t.Error("what is below cannot be found")
	}
}
