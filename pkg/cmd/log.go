package cmd

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strconv"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// withLogging turns on the client library's log at that verbosity (kubectl's
// -v), written to out. From level 8 on the library logs the bodies of requests
// and answers, which hold tokens' secrets: they are left out.
func withLogging(ctx context.Context, verbosity int, out io.Writer) (context.Context, error) {
	if verbosity <= 0 {
		// The library logs some errors besides returning them.
		return logr.NewContext(ctx, logr.Discard()), nil
	}
	text := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(out), textlogger.Verbosity(verbosity)))
	logger := logr.New(maskingSink{text.GetSink()})

	// Older parts of the library log through klog itself.
	var flags flag.FlagSet
	klog.InitFlags(&flags)
	if err := flags.Set("v", strconv.Itoa(verbosity)); err != nil {
		return nil, err
	}
	klog.SetLogger(logger)
	return logr.NewContext(ctx, logger), nil
}

// maskingSink hides the bodies of requests and answers from a log.
type maskingSink struct{ logr.LogSink }

// Init implements logr.LogSink: the sink is one call further from its caller.
func (s maskingSink) Init(info logr.RuntimeInfo) {
	info.CallDepth++
	s.LogSink.Init(info)
}

// WithCallDepth implements logr.CallDepthLogSink.
func (s maskingSink) WithCallDepth(depth int) logr.LogSink {
	if sink, ok := s.LogSink.(logr.CallDepthLogSink); ok {
		return maskingSink{sink.WithCallDepth(depth)}
	}
	return s
}

// Info implements logr.LogSink.
func (s maskingSink) Info(level int, msg string, keysAndValues ...any) {
	s.LogSink.Info(level, msg, maskBodies(keysAndValues)...)
}

// Error implements logr.LogSink.
func (s maskingSink) Error(err error, msg string, keysAndValues ...any) {
	s.LogSink.Error(err, msg, maskBodies(keysAndValues)...)
}

// WithValues implements logr.LogSink.
func (s maskingSink) WithValues(keysAndValues ...any) logr.LogSink {
	return maskingSink{s.LogSink.WithValues(maskBodies(keysAndValues)...)}
}

// WithName implements logr.LogSink.
func (s maskingSink) WithName(name string) logr.LogSink {
	return maskingSink{s.LogSink.WithName(name)}
}

func maskBodies(keysAndValues []any) []any {
	masked := append([]any(nil), keysAndValues...)
	for i := 0; i+1 < len(masked); i += 2 {
		if masked[i] == "body" {
			masked[i+1] = fmt.Sprintf("<not shown, as it may hold secrets: %d characters>", len(fmt.Sprint(masked[i+1])))
		}
	}
	return masked
}
