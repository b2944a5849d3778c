package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

// man returns what man shows of a page, on a terminal that is wide enough for
// every line. Where groff is missing the test is skipped, except where all tests
// are meant to run.
func man(t *testing.T, page string) string {
	t.Helper()
	groff, err := exec.LookPath("groff")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("it needs groff, of the package groff-base: ", err)
	}
	command := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=400n")
	command.Env = append(os.Environ(), "GROFF_NO_SGR=1")
	command.Stdin = strings.NewReader(page)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	shown, err := command.Output()
	if err != nil || complaints.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, &complaints)
	}
	return string(shown)
}

// Somebody who copies a command from a page has to get the one that help shows.
func TestManPagesShowWhatHelpSays(t *testing.T) {
	root := cmd.NewCommand(&cmd.Env{IOStreams: genericiooptions.NewTestIOStreamsDiscard()})
	pages := manPages(root)
	if want := len(verbs(root)) + 1; len(pages) != want {
		t.Errorf("there are %d pages, want %d", len(pages), want)
	}
	for _, command := range append(verbs(root), root) {
		t.Run(command.Name(), func(t *testing.T) {
			shown := man(t, pages[manName(command)+".1"])
			sections := regexp.MustCompile(`(?m)^[A-Z ]+$`).FindAllString(shown, -1)
			want := "NAME SYNOPSIS DESCRIPTION OPTIONS EXAMPLES SEE ALSO"
			if command == root {
				want = "NAME SYNOPSIS DESCRIPTION COMMANDS OPTIONS EXAMPLES SEE ALSO"
			}
			if got := strings.Join(sections, " "); got != want {
				t.Errorf("the sections are %s, want %s", got, want)
			}
			lines := []string{manName(command) + " - " + command.Short, command.CommandPath()}
			for line := range strings.SplitSeq(outdent(command.Example), "\n") {
				lines = append(lines, strings.TrimPrefix(line, "# "))
			}
			for paragraph := range strings.SplitSeq(command.Long, "\n\n") {
				lines = append(lines, strings.Join(strings.Fields(paragraph), " "))
			}
			for line := range strings.SplitSeq(command.LocalNonPersistentFlags().FlagUsages(), "\n") {
				lines = append(lines, regexp.MustCompile(`--[a-z-]+`).FindString(line))
			}
			for _, line := range lines {
				if line != "--help" && !strings.Contains(spaced(shown), spaced(line)) {
					t.Errorf("the page does not show %q:\n%s", line, shown)
				}
			}
		})
	}
}

// spaced leaves out that groff puts two spaces between sentences that end a line.
func spaced(text string) string { return strings.Join(strings.Fields(text), " ") }

func TestRoffComesOutAsItIs(t *testing.T) {
	for _, text := range []string{
		".SH not a request", "'so not one either", `back\slash \fBnot bold\fR \n(.x`, "--flag -f", `"quoted" 'single' ` + "`tick`",
		"^caret ~tilde", "é – 漢", `$(id) {"a": 1} <b> %s`,
	} {
		shown := man(t, ".TH T 1\n.SH NAME\n"+roff(text)+"\n")
		if !strings.Contains(shown, "       "+text+"\n") {
			t.Errorf("%q comes out as:\n%s", text, shown)
		}
	}
}
