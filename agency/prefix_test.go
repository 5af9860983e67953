package agency

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// In the tests of this file, the server's bets are not those of the input.

// otherLine is a bet that no input has.
const otherLine = "Otra|Persona|11111111|1990-05-23|1|7"

// welcomeOnly welcomes with these lines and wants no message after that.
func welcomeOnly(lines []string) func(*peer) {
	return func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(lines, 64, 65536))
		p.expectClosed()
	}
}

// runInBubble is a subtest in a bubble, which notices at once if an agency waits for ever.
func runInBubble(t *testing.T, name string, f func(t *testing.T, n *memoryNetwork)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { inBubble(t, f) })
}

func wantOtherBets(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, ErrOtherBets) || !strings.Contains(err.Error(), says) ||
		!strings.Contains(err.Error(), "the input has changed") || !strings.Contains(err.Error(), "somebody else uploads") {
		t.Errorf("got %v, want ErrOtherBets with %q and what to do", err, says)
	}
}

// The test inserts, removes or changes a row. If that row is among the stored ones, the upload
// fails before it sends a bet. If it is after them, the upload works as usual.
func TestChangedInput(t *testing.T) {
	const rows = 5
	input, lines := testInput(rows)
	original := strings.SplitAfter(input, "\r\n")[:rows]
	newRow, newLine := strings.ReplaceAll(strings.TrimSuffix(otherLine, "|7"), "|", ",")+"\r\n", otherLine
	for change, apply := range map[string]func(all []string, at int, other string) []string{
		"inserted": func(all []string, at int, other string) []string { return slices.Insert(all, at, other) },
		"removed":  func(all []string, at int, _ string) []string { return slices.Delete(all, at, at+1) },
		"changed":  func(all []string, at int, other string) []string { all[at] = other; return all },
	} {
		for stored := range rows + 1 {
			for at := range rows {
				for _, batchBets := range []int{1, 2, rows + 1} {
					name := fmt.Sprintf("row %d %s of %d stored, batches of %d", at, change, stored, batchBets)
					runInBubble(t, name, func(t *testing.T, n *memoryNetwork) {
						changedInput := strings.Join(apply(slices.Clone(original), at, newRow), "")
						if at >= stored {
							b := newBank(slices.Clone(lines[:stored])...)
							c := mustStartOn(t, n, b.serve, WithBatchBets(batchBets))
							if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(changedInput)); err != nil {
								t.Error(err)
							}
							b.check(t, apply(slices.Clone(lines), at, newLine))
							return
						}
						c := mustStartOn(t, n, inTurn(welcomeOnly(lines[:stored])), WithBatchBets(batchBets))
						_, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(changedInput))
						wantOtherBets(t, err, fmt.Sprintf("%d stored for agency 7", stored))
						if _, err := c.Winners(t.Context()); !errors.Is(err, ErrIncomplete) {
							t.Errorf("Winners: %v", err)
						}
						if err := c.Confirm(t.Context()); !errors.Is(err, ErrIncomplete) {
							t.Errorf("Confirm: %v", err)
						}
					})
				}
			}
		}
	}
}

// Another process uploads as this agency while its connection is cut.
func TestOtherUploadDuringCut(t *testing.T) {
	input, lines := testInput(20)
	for _, test := range []struct {
		name   string
		stored []string
		says   string
	}{
		{"less than was sent", slices.Concat(lines[:3], []string{otherLine}), "4 stored for agency 7"},
		{"what was sent", slices.Concat(lines[:5], []string{otherLine}), "6 stored for agency 7"},
		{"the other way round", []string{lines[1], lines[0]}, "2 stored for agency 7"},
		{"more than was sent", slices.Concat(lines[:6], []string{otherLine}), "7 stored for agency 7"},
		{"as many as there are", slices.Concat(lines[:19], []string{otherLine}), "20 stored for agency 7"},
		{"more than there are", slices.Concat(lines, []string{otherLine}), "21 stored for agency 7, 20 in the input"},
	} {
		runInBubble(t, test.name, func(t *testing.T, n *memoryNetwork) {
			c := mustStartOn(t, n, inTurn(func(p *peer) {
				p.expect("HELLO|7")
				p.say(welcome(nil, 64, 65536))
				for range 3 {
					if _, err := p.frame(); err != nil {
						t.Error(err)
					}
				}
			}, welcomeOnly(test.stored)), WithBatchBets(2), WithWindow(3))
			_, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
			wantOtherBets(t, err, test.says)
		})
	}
}

// After an input was refused, uploading the right one continues after the stored bets.
func TestUploadAfterOtherBets(t *testing.T) {
	input, lines := testInput(10)
	other, _ := testInput(9)
	b := newBank(lines[:9:9]...)
	c := mustStart(t, b.serve, WithBatchBets(4))
	_, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(strings.Replace(other, "Núñez 3", "Núñez 33", 1)))
	wantOtherBets(t, err, "the first 9 of the input")
	b.check(t, lines[:9])
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	b.check(t, lines)
}

// A second upload is compared from its beginning, even on the connection of the first one.
func TestUploadAgainOfAnotherInput(t *testing.T) {
	input, lines := testInput(10)
	b := newBank()
	c := mustStart(t, b.serve, WithBatchBets(4))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(strings.Replace(input, "Núñez 0", "Núñez 1", 1)))
	wantOtherBets(t, err, "10 stored for agency 7")
	_, err = c.Upload(t.Context(), "bets.csv", strings.NewReader(""))
	wantOtherBets(t, err, "10 stored for agency 7, 0 in the input")
	b.check(t, lines)
}

// Winners and Confirm compare every new connection's bets with what was uploaded.
func TestOtherBetsAfterReport(t *testing.T) {
	input, lines := testInput(10)
	changed := slices.Clone(lines)
	changed[4] = otherLine
	for _, test := range []struct {
		name   string
		stored []string
		want   error // nil: it goes on
	}{
		{"the same", lines, nil},
		{"one bet more", slices.Concat(lines, []string{otherLine}), ErrOtherBets},
		{"another bet", changed, ErrOtherBets},
		{"one bet less", lines[:9], ErrLostBets},
	} {
		for _, said := range []string{"GET_WINNERS|7", "RECEIVED|7"} {
			runInBubble(t, test.name+", "+said, func(t *testing.T, n *memoryNetwork) {
				b := newBank()
				c := mustStartOn(t, n, inTurn(func(p *peer) {
					for {
						payload, err := p.frame()
						if err != nil || payload == said {
							return // cut instead of an answer
						}
						p.say(b.answer(t, payload))
					}
				}, func(p *peer) {
					p.expect("HELLO|7")
					p.say(welcome(test.stored, 64, 65536))
					if test.want == nil {
						p.expect(said)
						p.say(b.answer(t, said))
						b.serve(p)
					}
					p.expectClosed()
				}))
				if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
					t.Fatal(err)
				}
				_, err := c.Winners(t.Context())
				if err == nil {
					err = c.Confirm(t.Context())
				}
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		}
	}
}

// An agency that has uploaded nothing has nothing to compare.
func TestOtherBetsWithoutInput(t *testing.T) {
	_, lines := testInput(10)
	b := newBank(slices.Concat(lines, []string{otherLine})...)
	c := mustStart(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(lines, 64, 65536))
		p.expect("GET_WINNERS|7")
	}, b.serve))
	w, err := c.Winners(t.Context())
	if err != nil || string(w.Bytes()) != lines[9] {
		t.Errorf("%q, %v", w.Bytes(), err)
	}
	if err := c.Confirm(t.Context()); err != nil || b.received != 1 {
		t.Errorf("%d receipts, %v", b.received, err)
	}
}
