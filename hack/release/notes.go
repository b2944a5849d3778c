package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

var (
	// linkDefinition ends the last section of the changelog.
	linkDefinition = regexp.MustCompile(`^\[[^]]+\]: `)
	// fileLink is a link to a file of the repository.
	fileLink = regexp.MustCompile(`\]\(([^:)#]+(?:#[^)]*)?)\)`)
)

// releaseNotes is the changelog's section of the version, with links that also
// work outside of the repository. A pre-release has no section of its own: its
// notes are what has not been released.
func releaseNotes(changelog, tag string) (string, error) {
	content, err := os.ReadFile(changelog)
	if err != nil {
		return "", err
	}
	version, ok := strings.CutPrefix(tag, "v")
	if !ok {
		return "", fmt.Errorf("%q is no tag of a release: it starts with v, such as v0.1.0", tag)
	}
	heading := version
	if strings.Contains(version, "-") {
		heading = "Unreleased"
	}
	notes, found := section(string(content), heading)
	if !found || notes == "" {
		return "", fmt.Errorf("%s says nothing of %s: add a section that starts with \"## [%s]\"", changelog, tag, heading)
	}
	return fileLink.ReplaceAllString(notes, "]("+repository+"/blob/"+tag+"/$1)") + "\n", nil
}

// section is the text below the heading "## [name]".
func section(text, name string) (string, bool) {
	var body strings.Builder
	found := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "## "):
			if found {
				return strings.TrimSpace(body.String()), true
			}
			found = strings.HasPrefix(line, "## ["+name+"]")
		case linkDefinition.MatchString(line):
		case found:
			body.WriteString(line)
		}
	}
	return strings.TrimSpace(body.String()), found
}
