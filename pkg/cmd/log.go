package cmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"sync"

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

// maskingSink hides the bodies of requests and answers from a log, and what
// looks like a secret.
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
	s.LogSink.Info(level, msg, maskValues(keysAndValues)...)
}

// Error implements logr.LogSink.
func (s maskingSink) Error(err error, msg string, keysAndValues ...any) {
	if err != nil {
		err = errors.New(hideSecrets(err.Error()))
	}
	s.LogSink.Error(err, msg, maskValues(keysAndValues)...)
}

// WithValues implements logr.LogSink.
func (s maskingSink) WithValues(keysAndValues ...any) logr.LogSink {
	return maskingSink{s.LogSink.WithValues(maskValues(keysAndValues)...)}
}

// WithName implements logr.LogSink.
func (s maskingSink) WithName(name string) logr.LogSink {
	return maskingSink{s.LogSink.WithName(name)}
}

func maskValues(keysAndValues []any) []any {
	masked := append([]any(nil), keysAndValues...)
	for i := 0; i+1 < len(masked); i += 2 {
		masked[i+1] = maskValue(masked[i], masked[i+1])
	}
	return masked
}

// cookies are lines of headers that let somebody in. The library itself leaves
// out Authorization.
var cookies = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?im)^(\s*(set-)?cookie: ).*`) })

func maskValue(key, value any) any {
	switch key {
	case "body":
		return fmt.Sprintf("<not shown, as it may hold secrets: %d characters>", len(fmt.Sprint(value)))
	case "headers":
		return cookies().ReplaceAllString(fmt.Sprint(value), "$1<not shown>")
	}
	switch v := value.(type) {
	case string:
		return hideSecrets(v)
	case error:
		return hideSecrets(v.Error())
	}
	return value
}
