package cmd_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

var update = flag.Bool("update", false, "write the golden files anew")

// commands returns the root, and every command that help shows.
func commands() []*cobra.Command {
	root := cmd.NewCommand(&cmd.Env{})
	return append([]*cobra.Command{root}, slices.DeleteFunc(root.Commands(), func(c *cobra.Command) bool { return c.Hidden })...)
}

func TestHelpIsAsInTheGoldenFiles(t *testing.T) {
	var files []string
	for i, command := range commands() {
		name, args := command.Name(), []string{command.Name(), "--help"}
		switch {
		case i == 0:
			name, args = "root", []string{"--help"}
		case name == "options": // is a help text itself
			args = []string{name}
		}
		files = append(files, name+".golden")
		t.Run(name, func(t *testing.T) {
			got := offline(t, args...)
			if got.code != 0 || got.stderr != "" {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
			if strings.Contains(got.out, cmd.BinaryName+" ") && name != "completion" {
				t.Errorf("help names the binary, which nobody calls:\n%s", got.out)
			}
			golden := filepath.Join("testdata", "help", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got.out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.out != string(want) {
				t.Errorf("help is\n%s\nwant\n%s\n(if it is to be so: go test -update)", got.out, want)
			}
		})
	}
	entries, err := os.ReadDir(filepath.Join("testdata", "help"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains(files, entry.Name()) {
			t.Errorf("%s belongs to no command", entry.Name())
		}
	}
}

func TestHelpIsTheSameByAnyWay(t *testing.T) {
	want := offline(t, "--help").out
	for _, args := range [][]string{nil, {"help"}, {"-h"}, {"help", "nonsense"}} {
		if got := offline(t, args...); got.code != 0 || got.out != want || got.stderr != "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, got.code, got.out, got.stderr)
		}
	}
	want = offline(t, "list", "--help").out
	for _, args := range [][]string{{"help", "list"}, {"ls", "-h"}} {
		if got := offline(t, args...); got.code != 0 || got.out != want {
			t.Errorf("%q: exit code %d, stdout %q", args, got.code, got.out)
		}
	}
}

func TestOptionsListsTheFlagsOfKubectl(t *testing.T) {
	got := offline(t, "options")
	got.wants(t, 0, "--kubeconfig", "")
	for _, name := range []string{"context", "cluster", "user", "as", "as-group", "server", "token", "certificate-authority", "client-certificate", "tls-server-name", "insecure-skip-tls-verify", "request-timeout", "v"} {
		if !strings.Contains(got.out, "--"+name+"=") {
			t.Errorf("--%s is missing", name)
		}
	}
}

// TestEveryExampleIsACommandLine takes the examples of the help texts, and
// parses each as the program would.
func TestEveryExampleIsACommandLine(t *testing.T) {
	const call = cmd.Name + " "
	for _, command := range commands() {
		if command.Example == "" && command.Name() != "options" {
			t.Errorf("%s has no example", command.Name())
		}
		for line := range strings.Lines(strings.ReplaceAll(command.Example, "\\\n", "")) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			setup := command.Name() == "completion" && (strings.HasPrefix(line, "chmod +x ") || strings.HasPrefix(line, "source <("))
			if !strings.HasPrefix(line, call) && !setup {
				t.Errorf("%s: %q does not start with %q", command.Name(), line, call)
			}
			for _, piece := range strings.Split(line, call)[1:] {
				words := shellWords(t, piece)
				root := cmd.NewCommand(&cmd.Env{})
				found, args, err := root.Find(words)
				if err != nil || found == root {
					t.Errorf("%q names no command: %v", line, err)
					continue
				}
				if err := found.ParseFlags(args); err != nil {
					t.Errorf("%q: %v", line, err)
				}
				if err := found.ValidateArgs(found.Flags().Args()); err != nil {
					t.Errorf("%q: %v", line, err)
				}
			}
		}
	}
}

// shellWords takes the first command of a shell's line apart.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	var word strings.Builder
	quote, in := rune(0), false
	flush := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, in = r, true
		case quote == 0 && strings.ContainsRune("|><);&", r):
			flush()
			return words
		case quote == 0 && r == ' ':
			flush()
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		t.Errorf("%q: a quote is open", line)
	}
	flush()
	return words
}
