package cmd

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// maxParallel is how many requests a user may have under way at once: an API
// server has a few hundred seats for all its clients.
const maxParallel = 256

// parallel is --parallel: how many requests are under way at once.
type parallel int

func (p *parallel) addFlags(cmd *cobra.Command) {
	*p = bootstrap.DefaultParallel
	cmd.Flags().Var(p, "parallel", fmt.Sprintf("How many requests to have under way at once, from 1 to %d.", maxParallel))
}

// String implements pflag.Value.
func (p *parallel) String() string { return strconv.Itoa(int(*p)) }

// Type implements pflag.Value.
func (p *parallel) Type() string { return "int" }

// Set implements pflag.Value.
func (p *parallel) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxParallel {
		return fmt.Errorf("it takes a number from 1 to %d", maxParallel)
	}
	*p = parallel(n)
	return nil
}
