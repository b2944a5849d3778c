package cmd

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
)

// serverClock is the clock of a cluster. It tells the user once where it is not
// this machine's.
type serverClock struct {
	*cluster.Clock
	env    *Env
	warned sync.Once
}

func newServerClock(env *Env) *serverClock {
	return &serverClock{Clock: cluster.NewClock(env.Now), env: env}
}

// now returns the time by which the expiry of tokens is judged. It is the
// server's from the first answer on, so ask late.
func (c *connection) now() time.Time {
	if skew := c.clock.Skew(); skew != 0 {
		c.clock.warned.Do(func() {
			where := "behind"
			if skew < 0 {
				where = "ahead of"
			}
			c.clock.env.warn("this machine's clock is %s %s the server's: expiry is judged by the server's", duration.ShortHumanDuration(skew.Abs().Round(time.Minute)), where)
		})
	}
	return c.clock.Now()
}

// now returns the time of the context's cluster, for what is compared with the
// times in its records.
func (s *supervisors) now() time.Time {
	if s.conn == nil {
		return s.env.Now()
	}
	return s.conn.clock.Now()
}
