// Command bench compares the plugin with kubectl, with K3s's own CLI and with
// raw requests, side by side on a real K3s server: `make bench`. It prints
// medians and ratios. Nothing fails on a slow machine: it is no test.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "raw" {
		if err := raw(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "raw:", err)
			os.Exit(1)
		}
		return
	}
	runs := flag.Int("runs", 20, "how often each quick command is timed")
	many := flag.String("tokens", "5000,50000", "how many tokens the long lists have, in ascending order")
	bulk := flag.Int("bulk", 1000, "how many tokens are created and deleted at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lengths, err := numbers(*many)
	if err == nil {
		err = run(ctx, *runs, lengths, *bulk)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of the benchmark.
type bench struct {
	ctx    context.Context
	server *k3stest.Server
	dir    string
	plugin string
	self   string // this program, which is also the minimal client
	k3s    string
	table  *tabwriter.Writer
}

func numbers(list string) ([]int, error) {
	var numbers []int
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func run(ctx context.Context, runs int, lengths []int, bulk int) (err error) {
	b := &bench{ctx: ctx, table: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	root, err := k3stest.Root()
	if err != nil {
		return err
	}
	b.plugin = filepath.Join(root, "bin", "kubectl-k3s_token")
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.k3s, err = k3stest.Binary("k3s"); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "k3t"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.server, err = k3stest.Start(ctx, k3stest.Options{Dir: b.dir}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Stop()) }()

	fmt.Fprintf(b.table, "WORK\tBY\tMEDIAN\tPEAK MEMORY\tPLUGIN / IT\n")
	works := []func() error{
		func() error { return b.startUp(runs) },
		func() error { return b.create(runs) },
		func() error { return b.list(handful, runs) },
		func() error { return b.bulk(bulk) },
		b.empty,
	}
	there := 0
	for _, length := range lengths {
		works = append(works, func() error {
			if err := b.fill(length - there); err != nil {
				return err
			}
			there = length
			return b.list(fmt.Sprintf("list, %d", length), min(max(100_000/length, 11), runs))
		})
	}
	for _, work := range works {
		if err := work(); err != nil {
			return err
		}
		if err := b.table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// contender is a command that does the work in question; the plugin is first.
type contender struct {
	name string
	args []string
	// prepare makes what the command uses up, and is not timed.
	prepare func() error
	// last is set for one that leaves the server with work, such as garbage to
	// collect: it is run a few times when the others are done.
	last bool
}

// measured is what a command took.
type measured struct {
	time   time.Duration
	memory int64 // bytes
}

func (b *bench) exec(args []string) (measured, error) {
	command := exec.CommandContext(b.ctx, args[0], args[1:]...)
	command.Env = append(os.Environ(), "KUBECONFIG="+b.server.Kubeconfig,
		"BENCH_URL="+b.server.URL, "BENCH_TLS="+filepath.Join(b.server.DataDir, "server", "tls"))
	// What it prints is not kept: a process's peak is not less than the memory
	// of the one that started it.
	var stderr bytes.Buffer
	command.Stderr = &stderr
	start := time.Now()
	err := command.Run()
	took := time.Since(start)
	if err != nil {
		return measured{}, fmt.Errorf("%s: %w: %s", strings.Join(args[:2], " "), err, stderr.Bytes())
	}
	return measured{time: took, memory: peakMemory(command.ProcessState)}, nil
}

// compare times the contenders in turns, so that a busy moment of the machine
// hits all of them, and prints a row each. Each turn has an order of its own: a
// server that one of them has kept busy is slow for the next.
func (b *bench) compare(work string, runs int, contenders ...contender) error {
	const lastRuns = 3
	results := make([][]measured, len(contenders))
	for turn := range runs + lastRuns {
		for _, i := range rand.Perm(len(contenders)) {
			c := contenders[i]
			if c.last != (turn >= runs) {
				continue
			}
			if c.prepare != nil {
				if err := c.prepare(); err != nil {
					return err
				}
			}
			m, err := b.exec(c.args)
			if err != nil {
				return err
			}
			results[i] = append(results[i], m)
		}
	}
	var plugin time.Duration
	for i, c := range contenders {
		median, memory := summary(results[i])
		ratio := ""
		if i == 0 {
			plugin = median
		} else {
			ratio = fmt.Sprintf("%.2f", float64(plugin)/float64(median))
		}
		fmt.Fprintf(b.table, "%s\t%s\t%.1f ms\t%.0f MiB\t%s\n", work, c.name, float64(median)/1e6, float64(memory)/(1<<20), ratio)
	}
	return nil
}

func summary(results []measured) (median time.Duration, memory int64) {
	times := make([]time.Duration, len(results))
	for i, m := range results {
		times[i] = m.time
		memory = max(memory, m.memory)
	}
	slices.Sort(times)
	return times[len(times)/2], memory
}

// startUp times commands that ask no server, beside the start of other programs,
// which tells how fast the machine is.
func (b *bench) startUp(runs int) error {
	others := []contender{{name: "a Go program with TLS that does nothing", args: []string{b.self, "raw", "nothing"}}}
	if kubectl, err := exec.LookPath("kubectl"); err == nil {
		others = append(others, contender{name: "kubectl version --client", args: []string{kubectl, "version", "--client"}})
	}
	for _, args := range [][]string{{"generate"}, {"inspect", "abcdef.0123456789abcdef"}, {"--help"}, {"__complete", "create", "--"}} {
		contenders := []contender{{name: "plugin", args: append([]string{b.plugin}, args...)}}
		if args[0] == "generate" {
			contenders = append(contenders, others...)
		}
		if err := b.compare(args[0], runs, contenders...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) create(runs int) error {
	return b.compare("create", runs,
		contender{name: "plugin", args: []string{b.plugin, "create", "--ttl", "1h"}},
		contender{name: "raw GET and POST", args: []string{b.self, "raw", "create", "1"}},
		contender{name: "k3s token", args: []string{b.k3s, "token", "create", "--ttl", "1h"}})
}

const handful = "list, a handful"

func (b *bench) list(work string, runs int) error {
	if work == handful {
		if err := b.empty(); err != nil {
			return err
		}
		if err := b.fill(5); err != nil {
			return err
		}
	}
	contenders := []contender{
		{name: "plugin", args: []string{b.plugin, "list"}},
		{name: "plugin, -o name", args: []string{b.plugin, "list", "-o", "name"}},
		{name: "raw GET", args: []string{b.self, "raw", "list"}},
		{name: "k3s token", args: []string{b.k3s, "token", "list"}},
	}
	if kubectl, err := exec.LookPath("kubectl"); err == nil {
		contenders = append(contenders, contender{name: "kubectl", args: []string{kubectl, "get", "secrets",
			"--namespace", "kube-system", "--field-selector", "type=bootstrap.kubernetes.io/token"}, last: work != handful})
	}
	return b.compare(work, runs, contenders...)
}

// bulk creates and deletes many tokens at once. Rows of it are timed a few
// times only; each run is long.
func (b *bench) bulk(count int) error {
	n := strconv.Itoa(count)
	if err := b.compare("create --count "+n, 3,
		contender{name: "plugin", args: []string{b.plugin, "create", "--ttl", "1h", "--count", n}, prepare: b.empty},
		contender{name: "raw, 32 at a time", args: []string{b.self, "raw", "create", n}, prepare: b.empty}); err != nil {
		return err
	}
	refill := func() error {
		if err := b.empty(); err != nil {
			return err
		}
		return b.fill(count)
	}
	if err := b.compare("delete "+n, 3,
		contender{name: "plugin", args: []string{b.plugin, "delete", "--all", "--yes"}, prepare: refill},
		contender{name: "raw, 32 at a time", args: []string{b.self, "raw", "delete"}, prepare: refill}); err != nil {
		return err
	}
	// K3s deletes five a second, so few are enough to tell.
	const some = 60
	ids := make([]string, some)
	for i := range ids {
		ids[i] = fmt.Sprintf("bnch%02d", i)
	}
	named := func() error {
		if err := b.empty(); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := b.exec([]string{b.self, "raw", "create-named", id}); err != nil {
				return err
			}
		}
		return nil
	}
	return b.compare(fmt.Sprintf("delete %d by id", some), 1,
		contender{name: "plugin", args: append([]string{b.plugin, "delete"}, ids...), prepare: named},
		contender{name: "k3s token", args: append([]string{b.k3s, "token", "delete"}, ids...), prepare: named})
}

// fill adds tokens, as many at once as the plugin makes.
func (b *bench) fill(count int) error {
	const atOnce = 10_000
	for ; count > 0; count -= atOnce {
		if _, err := b.exec([]string{b.plugin, "create", "--ttl", "24h", "--count", strconv.Itoa(min(count, atOnce))}); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) empty() error {
	_, err := b.exec([]string{b.plugin, "delete", "--all", "--yes"})
	return err
}
