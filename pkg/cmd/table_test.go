package cmd

import (
	"strings"
	"testing"
)

func TestColumnsLineUpByCharacters(t *testing.T) {
	rows := [][]string{{"A", "LONGER", "LAST"}, {strings.Repeat("ü", 70), "b", "c"}, {"", "é", ""}}
	table := newTable(3)
	for _, row := range rows {
		table.measure(row...)
	}
	for _, row := range rows {
		table.write(row...)
	}
	want := "A" + strings.Repeat(" ", 72) + "LONGER   LAST\n" +
		strings.Repeat("ü", 70) + "   b        c\n" +
		strings.Repeat(" ", 73) + "é        \n"
	if got := table.out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
