package create_test

import (
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd/create"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// store is one with room for the token token0.
type store struct{ deleted []string }

func (*store) Create(_ context.Context, t *bootstrap.Token) error {
	t.ID = "token0"
	return nil
}

func (s *store) Undo(_ context.Context, t *bootstrap.Token) error {
	s.deleted = append(s.deleted, t.ID)
	return nil
}

// k3s is a cluster whose version alone is known.
type k3s struct{}

func (k3s) CA(context.Context) (cluster.CA, error)           { return cluster.CA{}, nil }
func (k3s) Version(context.Context) (cluster.Version, error) { return "v1.31.1+k3s1", nil }
func (k3s) JoinURL(url supervisor.URL, _ supervisor.Distribution) (supervisor.URL, string, error) {
	return url, "", nil
}

// nodes are those of client-go's fake, of which a reflector must know that it is one.
type nodes struct{ corev1client.NodeInterface }

func (nodes) IsWatchListSemanticsUnSupported() bool { return true }

// List fails for the last look after a time-out, which is at one node.
func (n nodes) List(ctx context.Context, options metav1.ListOptions) (*corev1.NodeList, error) {
	if options.Limit == 1 {
		return nil, errors.New("gone")
	}
	return n.NodeInterface.List(ctx, options)
}

// stderr calls a function once the wait has begun.
type stderr struct {
	text  strings.Builder
	begun func()
}

func (s *stderr) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "waiting") {
		s.begun()
	}
	return s.text.Write(p)
}

func TestWait(t *testing.T) {
	for name, test := range map[string]struct {
		wait    create.Wait
		comes   bool // a node
		deleted []string
		stderr  string // a pattern
	}{
		"a token for one use": {
			create.Wait{DeleteAfterJoin: true, Timeout: time.Minute}, true, []string{"token0"},
			`60s for a new node to become Ready\nnode "w1": Ready\njoined: w1\ndeleted: token0\n`,
		},
		"a named node": {
			create.Wait{Node: "w1", DeleteOnInterrupt: true, Timeout: 2 * time.Hour}, true, nil,
			`120m for node "w1" to become Ready\nWarning: the token expires before the wait is over\nnode "w1": Ready\njoined: w1\n`,
		},
		"an interrupt": {
			create.Wait{DeleteAfterJoin: true, Timeout: time.Minute}, false, nil,
			`60s .*\n1 token left in the cluster: token0\nerror: interrupted\n`,
		},
		"an interrupt that takes the token back": {
			create.Wait{DeleteOnInterrupt: true, Timeout: time.Minute}, false, []string{"token0"},
			`60s .*\ndeleted: token0\nerror: interrupted\n`,
		},
		"a time-out": {
			create.Wait{Node: "w2", Timeout: time.Nanosecond, DeleteAfterJoin: true}, true, nil,
			`0s .*\n1 token left in the cluster: token0\nerror: timed out after 0s waiting for node "w2": none has registered\nhint: .*\nerror: gone\n`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			clients := fake.NewClientset()
			s, errOut := &store{}, &stderr{begun: interrupt}
			if test.comes {
				errOut.begun = func() { add(t, clients) }
			}
			silent := printers.ResourcePrinterFunc(func(runtime.Object, io.Writer) error { return nil })
			o := &create.Options{
				Streams: cmdutil.Streams{IOStreams: genericiooptions.IOStreams{Out: io.Discard, ErrOut: errOut}},
				Print:   cmdutil.NewPrintFlags().WithText(silent),
				Format:  "short", DryRun: cmdutil.DryRunNone, Count: 1, Wait: test.wait,
				Token: bootstrap.Token{Usages: []string{"authentication"}, Expires: time.Now().Add(time.Hour)},
			}
			o.Wait.On = true
			if err := o.Run(ctx, k3s{}, nodes{clients.CoreV1().Nodes()}, s, silent); err != nil {
				cmdutil.ReportError(errOut, err)
			}
			_, got, _ := strings.Cut(errOut.text.String(), "waiting up to ")
			if !regexp.MustCompile(`\A`+test.stderr+`\z`).MatchString(got) || !slices.Equal(s.deleted, test.deleted) {
				t.Errorf("deleted %v, want %v, and said\n%s", s.deleted, test.deleted, got)
			}
		})
	}
}

// add adds a node that is Ready.
func add(t *testing.T, clients *fake.Clientset) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := clients.Tracker().Add(node); err != nil {
		t.Error(err)
	}
}
