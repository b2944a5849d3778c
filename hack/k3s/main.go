// Command k3s is a real K3s, server and agent, for this project's tests and demo.
//
// It is put together from the packages of K3s itself, so that what the plugin
// is tested against is the real thing and not somebody's idea of it. It holds
// these commands:
//
//	server        K3s's own server; run it with --disable-agent
//	agent         K3s's own agent; the container runtime is the machine's, since
//	              none is part of the binary
//	token         K3s's own `k3s token`, to compare the plugin with
//	certificate   K3s's own, to rotate a cluster's CA
//	kubectl       K3s's own, for the tests' scripts
//	oracle        answers questions about tokens with the code of a joining node
//
// Linked with Program=rke2 it speaks as RKE2 does.
package main

import (
	"cmp"
	"context"
	"errors"
	"os"

	"github.com/k3s-io/k3s/pkg/cli/agent"
	"github.com/k3s-io/k3s/pkg/cli/cert"
	"github.com/k3s-io/k3s/pkg/cli/cmds"
	"github.com/k3s-io/k3s/pkg/cli/server"
	"github.com/k3s-io/k3s/pkg/cli/token"
	"github.com/k3s-io/k3s/pkg/configfilearg"
	"github.com/k3s-io/k3s/pkg/kubectl"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"
)

func main() {
	app := cmds.NewApp()
	app.Commands = []cli.Command{
		serverCommand(),
		cmds.NewAgentCommand(agent.Run),
		cmds.NewCertCommands(cert.Check, cert.Rotate, cert.RotateCA),
		cmds.NewKubectlCommand(runKubectl),
		cmds.NewTokenCommands(token.Create, token.Delete, token.Generate, token.List, token.Rotate),
		{
			Name:   "oracle",
			Usage:  "Answer questions about tokens, JSON lines on stdin and stdout",
			Action: func(*cli.Context) error { return oracle(os.Stdin, os.Stdout) },
		},
	}
	if err := app.Run(configfilearg.MustParse(os.Args)); err != nil && !errors.Is(err, context.Canceled) {
		logrus.Fatal(err)
	}
}

func runKubectl(*cli.Context) error {
	os.Args = os.Args[1:] // kubectl reads them itself
	kubectl.Main()
	return nil
}

// serverCommand is K3s's server command and one more flag: K3s serves nodes and
// the Kubernetes API on one port, while RKE2 has a port of its own for nodes,
// which its own command line sets through the same fields.
func serverCommand() cli.Command {
	var supervisorPort int
	command := cmds.NewServerCommand(func(c *cli.Context) error {
		if supervisorPort != 0 {
			cmds.ServerConfig.SupervisorPort = supervisorPort
			cmds.ServerConfig.APIServerPort = cmds.ServerConfig.HTTPSPort
			cmds.ServerConfig.APIServerBindAddress = cmp.Or(cmds.AgentConfig.BindAddress, "0.0.0.0")
		}
		return server.Run(c)
	})
	command.Flags = append(command.Flags, &cli.IntFlag{
		Name:        "supervisor-port",
		Usage:       "Serve nodes on this port, and only the Kubernetes API on --https-listen-port, as RKE2 does",
		Destination: &supervisorPort,
	})
	return command
}
