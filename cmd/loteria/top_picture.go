package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"loteria/engine/admin/board"
)

// The sizes of a picture. It is made for topWidthMin columns and 12 lines at least.
const (
	topWidthMin   = 40
	topWidthPlain = 80 // of plain text
	topCellLines  = 8  // at most
)

// topPicture is what `loteria top` shows.
type topPicture struct {
	state  *board.State // nil before the first
	note   string       // why there is no newer state; "" if there is
	width  int
	height int  // 0: as many lines as it takes
	color  bool // ANSI's
}

// take takes an update from the server at addr.
func (p *topPicture) take(u topUpdate, addr string) {
	if u.err != nil {
		p.note = fmt.Sprintf("no connection to %s, trying again: %v", addr, u.err)
		return
	}
	p.state, p.note = u.state, ""
}

// The colors of the states.
const (
	topRed, topYellow, topBlue, topGreen, topBold = "31", "33", "34", "32", "1"
)

var topCells = map[rune]struct{ shown, color string }{
	board.CellWaiting:   {"·", topRed},
	board.CellUploading: {"▒", topYellow},
	board.CellReported:  {"▓", topBlue},
	board.CellServed:    {"█", topGreen},
}

func (p topPicture) paint(color, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// fit cuts a text that may come from anywhere to the width. It leaves out what would control the
// terminal.
func (p topPicture) fit(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	width := max(p.width, topWidthMin)
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// text is the picture, each line with a line end. It has at most height lines: the last ones are left
// out, which matter least.
func (p topPicture) text() string {
	var lines []string
	add := func(color, format string, args ...any) {
		lines = append(lines, p.paint(color, p.fit(fmt.Sprintf(format, args...))))
	}
	if p.note != "" {
		add(topRed, "%s", p.note)
	}
	if s := p.state; s != nil {
		phase := string(s.Phase)
		if s.DrawnAt != nil {
			phase += ", drawn at " + s.DrawnAt.Local().Format(time.TimeOnly)
		}
		add(topBold, "draw      %s", phase)
		if s.Outcome != "" {
			add(topRed, "outcome   %s", s.Outcome)
		}
		add("", "bets      %d, %d win", s.Bets, s.Winners)
		if n := len(s.Series.Bets); n > 0 && s.Series.Step > 0 {
			add("", "bets/s    %d", rateOf(s))
			add(topBlue, "%s", sparkline(s.Series.Bets, max(p.width, topWidthMin)))
		}
		add("", "agencies  %d: %d wait, %d upload,", s.Agencies, s.Waiting, s.Uploading)
		add("", "          %d reported, %d served", s.Reported, s.Served)
		lines = append(lines, p.grid(s)...)
		lines = append(lines, p.servers(s.Cluster)...)
		for _, a := range s.Missing {
			add(topYellow, "missing   agency %d %s, %d bets", a.ID, a.State, a.Bets)
		}
		for i := len(s.Events) - 1; i >= 0; i-- { // the newest first
			add("", "%s  %s", s.Events[i].Time.Local().Format(time.TimeOnly), eventText(s.Events[i]))
		}
	}
	if p.height > 0 && len(lines) > p.height {
		lines = lines[:p.height]
	}
	return strings.Join(lines, "\n") + "\n"
}

// grid shows the cells, and of more than there is room for the first ones.
func (p topPicture) grid(s *board.State) (lines []string) {
	width, room := max(p.width, topWidthMin), topCellLines
	if p.height > 0 {
		room = max(1, min(room, p.height/4))
	}
	cells := []rune(s.Cells)
	for len(cells) > 0 && len(lines) < room {
		n := min(width, len(cells))
		var b strings.Builder
		for first := 0; first < n; { // a run of equal cells has one color
			last := first
			for last < n && cells[last] == cells[first] {
				last++
			}
			if c, ok := topCells[cells[first]]; ok {
				b.WriteString(p.paint(c.color, strings.Repeat(c.shown, last-first)))
			}
			first = last
		}
		lines, cells = append(lines, b.String()), cells[n:]
	}
	return lines
}

func (p topPicture) servers(c *board.Cluster) (lines []string) {
	if c == nil {
		return nil
	}
	for _, s := range c.Servers {
		role, color := "follows", ""
		switch {
		case s.ID == c.Leader:
			role, color = fmt.Sprintf("leads, term %d", c.Term), topGreen
		case !s.Connected && s.ID != c.Server:
			role, color = "not connected", topRed
		case !s.Votes:
			role = "learns"
		}
		if s.Behind != nil {
			role += fmt.Sprintf(", %d behind", *s.Behind)
		}
		lines = append(lines, p.paint(color, p.fit(fmt.Sprintf("server %d  %s  %s", s.ID, role, s.Addr))))
	}
	return lines
}

// rateOf is how many bets were stored in the last second of the series.
func rateOf(s *board.State) int64 {
	steps := min(max(1, int(time.Second.Milliseconds()/s.Series.Step)), len(s.Series.Bets))
	var bets int64
	for _, n := range s.Series.Bets[len(s.Series.Bets)-steps:] {
		bets += n
	}
	return int64(float64(bets) / (float64(steps) * float64(s.Series.Step) / 1000))
}

var sparks = []rune("▁▂▃▄▅▆▇█")

// sparkline shows a series in at most so many columns. Steps that share a column are added.
func sparkline(bets []int64, width int) string {
	columns := make([]float64, min(width, len(bets)))
	highest := 0.
	for i, n := range bets {
		at := i * len(columns) / len(bets)
		columns[at] += float64(max(n, 0))
		highest = max(highest, columns[at])
	}
	line := make([]rune, len(columns))
	for i, n := range columns {
		line[i] = sparks[0]
		if highest > 0 {
			line[i] = sparks[int(n/highest*float64(len(sparks)-1))]
		}
	}
	return string(line)
}

func eventText(e board.Event) string {
	switch e.Kind {
	case board.EventStarted:
		return "the server starts"
	case board.EventReported:
		return fmt.Sprintf("agency %d has reported", e.Agency)
	case board.EventDraw:
		return "the draw takes place"
	case board.EventServed:
		return fmt.Sprintf("agency %d has its winners", e.Agency)
	case board.EventLeader:
		return fmt.Sprintf("server %d leads, term %d", e.Server, e.Term)
	case board.EventLost:
		return "no leader is known"
	case board.EventOver:
		return "the server ends"
	}
	return string(e.Kind)
}
