package lottery_test

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine/lottery"
)

// record is an entry as a ledger would keep it.
type record struct {
	entry   lottery.Entry
	agency  codec.Agency
	count   int
	lines   codec.Stretch
	winners []byte
}

// recorder is a lottery with the ledger that its caller keeps.
type recorder struct {
	*lottery.Lottery
	rules  lottery.Rules
	ledger []record
}

func newRecorder(rules lottery.Rules) *recorder {
	return &recorder{Lottery: lottery.New(rules), rules: rules}
}

// apply applies req, keeps its entry and returns its effects. It then overwrites req.Winners, since
// callers reuse that slice at once.
func (r *recorder) apply(req lottery.Request) (lottery.Entry, []lottery.Effect) {
	entry, effects := r.Apply(req, nil)
	if entry != lottery.NoEntry {
		agency := req.Agency
		if req.Kind == lottery.Taken {
			agency = req.Session.Agency()
		}
		count := req.Count
		if entry == lottery.ReportedEntry && req.Session.Confirms() {
			count = 1
		}
		r.ledger = append(r.ledger, record{entry, agency, count, req.Lines, slices.Clone(req.Winners)})
	}
	for i := range req.Winners {
		req.Winners[i] = '#'
	}
	return entry, each(effects)
}

// each repeats every effect as often as its Times says.
func each(effects []lottery.Effect) (out []lottery.Effect) {
	for _, e := range effects {
		times := max(e.Times, 1)
		e.Times = 0
		out = append(out, slices.Repeat([]lottery.Effect{e}, int(times))...)
	}
	return out
}

// restarted is what a server has after a restart: a new lottery with the same ledger, and no
// sessions.
func (r *recorder) restarted() (*recorder, error) {
	again := newRecorder(r.rules)
	again.ledger = slices.Clone(r.ledger)
	for i, rec := range r.ledger {
		winners := slices.Clone(rec.winners)
		if err := again.Replay(rec.entry, rec.agency, rec.count, rec.lines, winners); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		for i := range winners {
			winners[i] = '#' // Replay must have copied them
		}
	}
	return again, nil
}

// session makes a session; describe shows its name.
func session(name string) *lottery.Session { return &lottery.Session{Peer: name} }

func hello(s *lottery.Session, id codec.Agency) lottery.Request {
	return lottery.Request{Kind: lottery.Hello, Session: s, Agency: id}
}

// bets is a batch of count bets. The lines in winning win; the others are all the same line.
func bets(s *lottery.Session, id codec.Agency, count int, winning ...string) lottery.Request {
	var lines []byte
	for _, line := range winning {
		lines = append(append(lines, line...), '\n')
	}
	all := append(slices.Clone(lines), strings.Repeat(loser+"\n", max(count-len(winning), 0))...)
	return lottery.Request{
		Kind: lottery.Bets, Session: s, Agency: id,
		Count: count, Lines: stretch(all), Winners: lines,
	}
}

// loser stands for any bet that doesn't win.
const loser = "Luz|Paz|1|1990-05-23|1|1"

// stretch describes lines as a server does: by a checksum that begins with a seed.
func stretch(lines []byte) codec.Stretch {
	const seed = 0x4c4f5445
	return codec.StretchOf(lines, crc32.Update(seed, crc32.MakeTable(crc32.Castagnoli), lines), seed)
}

func received(s *lottery.Session, id codec.Agency) lottery.Request {
	return lottery.Request{Kind: lottery.Received, Session: s, Agency: id}
}

func taken(s *lottery.Session) lottery.Request {
	return lottery.Request{Kind: lottery.Taken, Session: s}
}

func getWinners(s *lottery.Session, id codec.Agency) lottery.Request {
	return lottery.Request{Kind: lottery.GetWinners, Session: s, Agency: id}
}

func leave(s *lottery.Session) lottery.Request {
	return lottery.Request{Kind: lottery.Leave, Session: s}
}

func ack(s *lottery.Session, id codec.Agency, count int) lottery.Effect {
	return lottery.Effect{Kind: lottery.Ack, Session: s, Agency: id, Count: count}
}

// welcome is the answer to a HELLO, without its checksum, which describe leaves out.
func welcome(s *lottery.Session, id codec.Agency, stored int64) lottery.Effect {
	return lottery.Effect{Kind: lottery.Welcome, Session: s, Agency: id, Stored: stored}
}

func receipt(s *lottery.Session, id codec.Agency) lottery.Effect {
	return lottery.Effect{Kind: lottery.Receipt, Session: s, Agency: id}
}

func winners(s *lottery.Session, id codec.Agency, lines ...string) lottery.Effect {
	payload := []byte(strings.Join(lines, "\n"))
	return lottery.Effect{
		Kind: lottery.Winners, Session: s, Agency: id, Count: len(lines), Payload: payload,
	}
}

func reject(s *lottery.Session, id codec.Agency, code codec.Code) lottery.Effect {
	return lottery.Effect{Kind: lottery.Reject, Session: s, Agency: id, Code: code}
}

func draw(won int) lottery.Effect { return lottery.Effect{Kind: lottery.Draw, Count: won} }

// describe writes one line for each effect, with every field but the checksum and Times, so that
// effects can be compared and read. A session is shown by its Peer.
func describe(effects []lottery.Effect) string {
	kinds := map[lottery.EffectKind]string{
		lottery.Ack: "ack", lottery.Welcome: "welcome", lottery.Winners: "winners",
		lottery.Reject: "reject", lottery.Draw: "draw", lottery.Receipt: "receipt",
	}
	var b strings.Builder
	for _, e := range effects {
		peer := any("nobody")
		if e.Session != nil {
			peer = e.Session.Peer
		}
		fmt.Fprintf(&b, "\t%s %v agency=%d code=%v count=%d stored=%d payload=%q\n",
			kinds[e.Kind], peer, e.Agency, e.Code, e.Count, e.Stored, e.Payload)
	}
	if b.Len() == 0 {
		return "\tnothing\n"
	}
	return b.String()
}

// game is a recorder that checks every step.
type game struct {
	*recorder
	t *testing.T
}

func newGame(t *testing.T, rules lottery.Rules) *game {
	return &game{recorder: newRecorder(rules), t: t}
}

// expect applies req; its entry and effects must be exactly these.
func (g *game) expect(req lottery.Request, entry lottery.Entry, effects ...lottery.Effect) {
	g.t.Helper()
	gotEntry, got := g.apply(req)
	if gotEntry != entry {
		g.t.Errorf("entry %d, want %d", gotEntry, entry)
	}
	g.compare(got, effects)
}

// expectDismiss dismisses the waiting sessions; the effects must be exactly these.
func (g *game) expectDismiss(effects ...lottery.Effect) {
	g.t.Helper()
	g.compare(each(g.Dismiss(nil)), effects)
}

func (g *game) compare(got, want []lottery.Effect) {
	g.t.Helper()
	if got, want := describe(got), describe(want); got != want {
		g.t.Errorf("effects:\n%swant:\n%s", got, want)
	}
}

// restart replays the ledger into a new lottery without sessions.
func (g *game) restart() {
	g.t.Helper()
	again, err := g.restarted()
	if err != nil {
		g.t.Fatal(err)
	}
	g.recorder = again
}
