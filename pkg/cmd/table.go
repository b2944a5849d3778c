package cmd

import (
	"bytes"
	"unicode/utf8"
)

// table lines columns up as kubectl does. It keeps no lines: each is measured
// before the first is written, and made once more then, which for long tables
// is cheaper than to hold them.
type table struct {
	out    bytes.Buffer
	widths []int // in characters, with the space behind
}

// newTable returns a table of that many columns.
func newTable(columns int) *table { return &table{widths: make([]int, columns)} }

// measure makes each column as wide as its cell.
func (t *table) measure(cells ...string) {
	const narrowest, padding = 6, 3
	for i, cell := range cells {
		t.widths[i] = max(t.widths[i], narrowest, utf8.RuneCountInString(cell)+padding)
	}
}

// write adds a line to out.
func (t *table) write(cells ...string) {
	for i, cell := range cells {
		t.out.WriteString(cell)
		if i < len(cells)-1 {
			for n := t.widths[i] - utf8.RuneCountInString(cell); n > 0; n -= len(spaces) {
				t.out.WriteString(spaces[:min(n, len(spaces))])
			}
		}
	}
	t.out.WriteByte('\n')
}

const spaces = "                                                                "
