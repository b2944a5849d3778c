package cmdutil

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// text is the value of a flag that must not be empty.
type text[T ~string] struct {
	target  *T
	choices []string // all values, or none if there are others
}

// NonEmpty returns the value of a flag that must not be empty. A script gives an
// empty one if a variable is not set.
func NonEmpty(target *string) pflag.Value { return text[string]{target: target} }

// AddChoice adds a flag with fixed values, which completion offers. The default is
// the value of its target.
func AddChoice[T ~string](cmd *cobra.Command, target *T, name, usage string, choices ...string) {
	cmd.Flags().Var(text[T]{target, choices}, name, usage)
	CompleteValues(cmd, name, choices...)
}

// Set implements pflag.Value.
func (t text[T]) Set(value string) error {
	switch {
	case value == "":
		return errors.New("must not be empty")
	case t.choices != nil && !slices.Contains(t.choices, value):
		return fmt.Errorf("must be one of %s", strings.Join(t.choices, ", "))
	}
	*t.target = T(value)
	return nil
}

func (t text[T]) String() string { return string(*t.target) }

// Type implements pflag.Value. Help quotes the default of a string.
func (text[T]) Type() string { return "string" }

// CompleteValues offers values for a flag that takes others too.
func CompleteValues(cmd *cobra.Command, flag string, values ...string) {
	complete := cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	utilruntime.Must(cmd.RegisterFlagCompletionFunc(flag, complete))
}
