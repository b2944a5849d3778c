package main

import (
	"encoding/xml"
	"fmt"
	"html"
	"math"
	"regexp"
	"strings"
)

// The size of things, in pixels. A character of a monospaced font is as wide as
// six tenths of its height.
const (
	fontSize   = 14
	charWidth  = 8.4
	lineHeight = 20
	margin     = 20
	titleBar   = 40
)

// style has the colours of a dark terminal whose border shows on white pages
// and on dark ones.
const style = `
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;white-space:pre;fill:#c9d1d9}
.prompt{fill:#3fb950}
.command{fill:#f0f6fc;font-weight:600}
`

const prompt = "$ "

// draw returns the picture of a terminal as SVG.
func draw(screen []step) string {
	var lines strings.Builder
	y := titleBar + fontSize
	for i, step := range screen {
		if i > 0 {
			y += lineHeight / 2
		}
		write(&lines, "prompt", 0, y, strings.TrimSpace(prompt))
		write(&lines, "command", len(prompt), y, step.command)
		y += lineHeight
		for _, line := range strings.Split(step.output, "\n") {
			write(&lines, "", 0, y, line)
			y += lineHeight
		}
	}
	width := int(math.Ceil(2*margin + columns*charWidth))
	height := y - fontSize + margin/2

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-labelledby="title">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<!-- Drawn by hack/update-picture.sh from a real run. Do not edit. -->\n")
	fmt.Fprintf(&b, "<title id=\"title\">A terminal with kubectl k3s-token</title>\n<style>%s</style>\n", style)
	fmt.Fprintf(&b, `<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#0d1117" stroke="#30363d"/>`+"\n", width-1, height-1)
	for i, colour := range []string{"#ff5f56", "#ffbd2e", "#27c93f"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="18" r="6" fill="%s"/>`+"\n", margin+20*i, colour)
	}
	b.WriteString(lines.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// write puts a text at a column of a line. Its length is given, so that columns
// stay below each other in any font.
func write(b *strings.Builder, class string, column, y int, text string) {
	text = strings.TrimRight(text, " ")
	if text == "" {
		return
	}
	attribute := ""
	if class != "" {
		attribute = fmt.Sprintf(` class="%s"`, class)
	}
	characters := len([]rune(text))
	fmt.Fprintf(b, `<text%s x="%.4g" y="%d" textLength="%.5g" lengthAdjust="spacingAndGlyphs" xml:space="preserve">`,
		attribute, margin+float64(column)*charWidth, y, float64(characters)*charWidth)
	// Writing to a strings.Builder does not fail.
	_ = xml.EscapeText(b, []byte(text))
	b.WriteString("</text>\n")
}

var commandText = regexp.MustCompile(`<text class="command"[^>]*>([^<]*)</text>`)

// commandsIn are the commands that a picture shows.
func commandsIn(picture string) []string {
	var commands []string
	for _, match := range commandText.FindAllStringSubmatch(picture, -1) {
		commands = append(commands, html.UnescapeString(match[1]))
	}
	return commands
}
