package agency

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// The stored bets are another file's, in every way in which a file can change: the agency says so,
// and sends nothing.
func TestOtherFile(t *testing.T) {
	const rows, stored = 30, 20
	input, lines := testInput(rows)
	all := strings.SplitAfter(input, "\n")[:rows]
	for at := range rows {
		for name, change := range map[string]func([]string) []string{
			"inserted": func(rows []string) []string { return slices.Insert(rows, at, "Eva,Roz,1,1990-05-23,1\n") },
			"removed":  func(rows []string) []string { return slices.Delete(rows, at, at+1) },
			"changed": func(rows []string) []string {
				rows[at] = strings.Replace(rows[at], "1990-05-23", "1990-05-24", 1)
				return rows
			},
		} {
			b := newBank(lines[:stored]...)
			c := mustStart(t, b.serve, WithBatchBets(7))
			changed := strings.Join(change(slices.Clone(all)), "")
			_, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(changed))
			if at >= stored { // what is not stored may change
				if err != nil {
					t.Errorf("row %d %s: %v", at, name, err)
				}
				continue
			}
			if !errors.Is(err, ErrOtherBets) || !strings.Contains(err.Error(), "has changed since it was uploaded") {
				t.Errorf("row %d %s: %v", at, name, err)
			}
			b.check(t, lines[:stored])
			if _, err := c.Winners(t.Context()); !errors.Is(err, ErrIncomplete) {
				t.Errorf("row %d %s: winners after that: %v", at, name, err)
			}
		}
	}
}

// Somebody else uploads under this id while the connection is cut: less, as much and more than was
// sent. Nothing is sent behind that.
func TestForeignUploadDuringCut(t *testing.T) {
	input, lines := testInput(30)
	_, foreign := testInput(40)
	for i := range foreign {
		foreign[i] = strings.Replace(foreign[i], "María", "Marta", 1)
	}
	for _, stored := range [][]string{
		slices.Concat(lines[:10], foreign[10:12]), // behind what was acknowledged
		slices.Concat(lines[:10], foreign[10:20]),
		slices.Concat(lines[:10], foreign[10:25]),
		slices.Concat(lines[:10], foreign[10:30]), // as many as there are
		slices.Concat(lines[:30], foreign[30:31]), // more than there are
		foreign[:10],
	} {
		b := newBank(stored...)
		c := mustStart(t, inTurn(
			func(p *peer) {
				p.expect("HELLO|7")
				p.say(welcome(2, 65536))
				p.expect(strings.Join(lines[:10], "\n"), strings.Join(lines[10:20], "\n"))
				p.say("ACK")
			},
			b.serve,
		), WithBatchBets(10))
		if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); !errors.Is(err, ErrOtherBets) {
			t.Errorf("%d stored, the last of them %q: %v", len(stored), stored[len(stored)-1], err)
		}
		b.check(t, stored)
	}
}

// The check goes on while the agency waits for its winners: a server that is reached again has to
// hold exactly what was uploaded.
func TestOtherBetsAfterTheReport(t *testing.T) {
	input, lines := testInput(20)
	for name, stored := range map[string][]string{
		"another bet":  slices.Concat(lines[:19], []string{"Eva|Roz|1|1990-05-23|1|7"}),
		"one bet more": slices.Concat(lines, []string{"Eva|Roz|1|1990-05-23|1|7"}),
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newBank(), newBank(stored...)
			c := mustStart(t, inTurn(
				func(p *peer) {
					for range 1 + 20/10 { // HELLO and two batches
						payload, err := p.frame()
						if err != nil {
							t.Error(err)
							return
						}
						p.say(first.answer(t, payload))
					}
					p.expect("GET_WINNERS|7") // and the connection breaks
				},
				second.serve,
			), WithBatchBets(10))
			if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Winners(t.Context()); !errors.Is(err, ErrOtherBets) {
				t.Errorf("got %v", err)
			}
			second.check(t, stored)
			if second.asked > 0 {
				t.Error("the agency reports to a server that has other bets")
			}
		})
	}
}
