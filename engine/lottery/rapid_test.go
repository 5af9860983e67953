package lottery_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"loteria/codec"
	"loteria/engine/lottery"
)

// TestAgainstModel sends random requests from many connections to the lottery and to the model. The
// entries, the effects and their order must be the same, and at every point a replay of the entries
// must give the same state.
//
// A failure prints the seed and a smallest failing sequence; replay it as printed, with
// -rapid.failfile or -rapid.seed. For a longer search:
//
//	go test ./engine/lottery -run TestAgainstModel -rapid.checks=10000 -rapid.steps=100
func TestAgainstModel(t *testing.T) {
	for _, rules := range []lottery.Rules{
		{},
		{Poll: true},
		{AllWinners: true},
		{Poll: true, AllWinners: true},
	} {
		t.Run(fmt.Sprintf("poll=%v,all=%v", rules.Poll, rules.AllWinners), rapid.MakeCheck(func(t *rapid.T) {
			rules.Agencies = rapid.IntRange(1, 4).Draw(t, "agencies")
			d := &duel{
				lottery: newRecorder(rules),
				model:   &model{rules: rules, confirms: map[codec.Agency]bool{}},
			}
			t.Repeat(map[string]func(*rapid.T){
				"":     d.checkState,
				"step": d.step,
			})
			d.finish(t)
		}))
	}
}

// duel is the lottery and its model. Both get the same requests.
type duel struct {
	lottery *recorder
	model   *model
	conns   []*conn // all since the restart, also the closed ones
	named   int     // sessions so far
	bets    int     // bets so far, so that no two lines are the same
	draws   int     // since the beginning of the log
	pushed  []pushed
}

// pushed is a payload that left the lottery, and a copy of it from that moment.
type pushed struct{ payload, then []byte }

// steps names each step about as often as it should be taken; rapid prefers the first ones.
var steps = []string{
	"bets", "get winners", "leave", "bets", "get winners", "leave", "bets", "get winners", "hello",
	"bets", "get winners", "leave", "bets", "get winners", "hello", "leave", "dismiss", "restart",
	"received", "taken", "bets",
}

func (d *duel) step(t *rapid.T) {
	switch step := rapid.SampledFrom(steps).Draw(t, "step"); step {
	case "bets":
		c := d.conn(t)
		id := d.agency(t, c)
		batch := d.batch(t, id)
		entry, want := d.model.bets(c, id, batch)
		req := bets(c.session, id, len(batch), winning(batch)...)
		req.Lines = d.stretch(t, batch)
		d.compare(t, req, entry, want)
	case "get winners":
		c := d.conn(t)
		d.getWinners(t, c, d.agency(t, c))
	case "hello":
		c := d.conn(t)
		d.hello(t, c, d.agency(t, c))
	case "leave":
		c := d.conn(t)
		c.closed = true
		d.compare(t, leave(c.session), lottery.NoEntry, nil)
	case "received":
		c := d.conn(t)
		d.received(t, c, d.agency(t, c))
	case "taken":
		d.taken(t, d.conn(t))
	case "dismiss":
		got, want := describe(each(d.lottery.Dismiss(nil))), describe(d.model.dismiss())
		if got != want {
			t.Fatalf("dismissed:\n%swant:\n%s", got, want)
		}
	case "restart":
		d.restart(t)
	}
}

func (d *duel) getWinners(t *rapid.T, c *conn, id codec.Agency) {
	entry, want := d.model.getWinners(c, id)
	d.compare(t, getWinners(c.session, id), entry, want)
}

func (d *duel) hello(t *rapid.T, c *conn, id codec.Agency) {
	d.compare(t, hello(c.session, id), lottery.NoEntry, d.model.hello(c, id))
}

func (d *duel) received(t *rapid.T, c *conn, id codec.Agency) {
	entry, want := d.model.received(c, id)
	d.compare(t, received(c.session, id), entry, want)
}

func (d *duel) taken(t *rapid.T, c *conn) {
	d.compare(t, taken(c.session), d.model.taken(c), nil)
}

// stretch describes the batch's lines. The last line may lack its line end.
func (d *duel) stretch(t *rapid.T, batch []bet) codec.Stretch {
	var lines []byte
	for _, b := range batch {
		lines = append(append(lines, b.line...), '\n')
	}
	if rapid.Bool().Draw(t, "without the last line end") {
		lines = lines[:len(lines)-1]
	}
	return stretch(lines)
}

// conn draws a connection: often a new one, else any earlier one, also if it is closed.
func (d *duel) conn(t *rapid.T) *conn {
	if len(d.conns) == 0 || rapid.Bool().Draw(t, "new connection") {
		return d.newConn()
	}
	return rapid.SampledFrom(d.conns).Draw(t, "connection")
}

func (d *duel) newConn() *conn {
	d.named++
	c := &conn{session: session(fmt.Sprintf("connection %d", d.named))}
	d.conns = append(d.conns, c)
	return c
}

// agency draws the agency that a message names: often the connection's own, sometimes one that is
// not expected.
func (d *duel) agency(t *rapid.T, c *conn) codec.Agency {
	if c.agency != 0 && rapid.IntRange(0, 3).Draw(t, "another agency if 3") < 3 {
		return c.agency
	}
	return codec.Agency(rapid.IntRange(0, d.model.rules.Agencies+1).Draw(t, "agency"))
}

func (d *duel) batch(t *rapid.T, id codec.Agency) []bet {
	wins := rapid.SliceOfN(rapid.Bool(), 1, 4).Draw(t, "winning bets")
	batch := make([]bet, len(wins))
	for i, w := range wins {
		d.bets++
		batch[i] = bet{line: fmt.Sprintf("Ana|Paz|%d|1990-05-23|7574|%d", d.bets, id), wins: w}
	}
	return batch
}

func winning(batch []bet) []string {
	var lines []string
	for _, b := range batch {
		if b.wins {
			lines = append(lines, b.line)
		}
	}
	return lines
}

func (d *duel) compare(
	t *rapid.T, req lottery.Request, wantEntry lottery.Entry, want []lottery.Effect,
) {
	entry, effects := d.lottery.apply(req)
	if entry != wantEntry {
		t.Fatalf("entry %d, want %d", entry, wantEntry)
	}
	if got, want := describe(effects), describe(want); got != want {
		t.Fatalf("effects:\n%swant:\n%s", got, want)
	}
	for _, e := range effects {
		switch e.Kind {
		case lottery.Draw:
			d.draws++
		case lottery.Welcome:
			if want := d.model.checksum(e.Agency); e.Checksum != want {
				t.Fatalf("the welcome of agency %d has checksum %v, want %v",
					e.Agency, e.Checksum, want)
			}
		case lottery.Winners:
			d.pushed = append(d.pushed, pushed{e.Payload, bytes.Clone(e.Payload)})
		}
	}
}

func (d *duel) restart(t *rapid.T) {
	again, err := d.lottery.restarted()
	if err != nil {
		t.Fatal(err)
	}
	d.lottery = again
	d.model.restart()
	d.conns = nil
}

// checkState compares everything that the lottery can be asked with the model: for the lottery as
// it is, and as a restart would rebuild it.
func (d *duel) checkState(t *rapid.T) {
	again, err := d.lottery.restarted()
	if err != nil {
		t.Fatal(err)
	}
	want, wantSessions := d.modelState(), len(d.model.open())
	if got := durableState(d.lottery); got != want {
		t.Fatalf("state %s, want %s", got, want)
	}
	if got := durableState(again); got != want {
		t.Fatalf("state after a replay %s, want %s", got, want)
	}
	if got := d.lottery.OpenSessions(); got != wantSessions {
		t.Fatalf("%d open sessions, want %d", got, wantSessions)
	}
	if got := again.OpenSessions(); got != 0 {
		t.Fatalf("%d open sessions after a replay", got)
	}
	for _, c := range d.conns {
		if c.session.Agency() != c.agency || c.session.Gone() != c.closed {
			t.Fatalf("%v: agency %d, gone %v, want %d, %v",
				c.session.Peer, c.session.Agency(), c.session.Gone(), c.agency, c.closed)
		}
	}
	if drawn := d.lottery.Drawn(); d.draws > 1 || drawn != (d.draws == 1) {
		t.Fatalf("%d draws announced, drawn %v", d.draws, drawn)
	}
	for _, p := range d.pushed {
		if !bytes.Equal(p.payload, p.then) {
			t.Fatalf("pushed %q, which has since become %q", p.then, p.payload)
		}
	}
}

// finish ends the draw. Every open connection, and a new one of each agency, asks for its winners;
// in some runs a HELLO first takes over the open ones. After a last restart each agency asks once
// more. There must have been a draw, and every agency must get its winners and count as served.
func (d *duel) finish(t *rapid.T) {
	takeover := rapid.Bool().Draw(t, "take over at the end")
	for id := range codec.Agency(d.model.rules.Agencies) {
		if takeover {
			d.hello(t, d.newConn(), id+1)
		}
		for _, c := range d.model.open() {
			if c.agency == id+1 {
				d.getWinners(t, c, id+1)
			}
		}
		d.getWinners(t, d.newConn(), id+1)
	}
	if !d.lottery.Drawn() {
		t.Fatal("every agency has reported, and there was no draw")
	}
	d.checkState(t)
	d.restart(t)
	for id := range codec.Agency(d.model.rules.Agencies) {
		c := d.newConn()
		d.getWinners(t, c, id+1)
		if d.model.confirms[id+1] || rapid.Bool().Draw(t, "confirms") {
			d.hello(t, c, id+1)
			d.received(t, c, id+1)
		} else {
			d.taken(t, c)
		}
	}
	if n := d.lottery.Unserved(); n != 0 {
		t.Fatalf("%d agencies don't count as served", n)
	}
	d.checkState(t)
}

func durableState(r *recorder) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "drawn %v, %d bets, %d won", r.Drawn(), r.Bets(), r.Won())
	for id := range codec.Agency(r.Agencies() + 2) { // with one unexpected id at either end
		fmt.Fprintf(&b, "; %d: %d, %v, %v, %v",
			id, r.Stored(id), r.Checksum(id), r.Reported(id), r.Served(id))
	}
	return b.String()
}

func (d *duel) modelState() string {
	m := d.model
	var total int64
	var b bytes.Buffer
	for id := range codec.Agency(m.rules.Agencies + 2) {
		total += m.stored(id)
		fmt.Fprintf(&b, "; %d: %d, %v, %v, %v",
			id, m.stored(id), m.checksum(id), m.reported(id), m.served(id))
	}
	return fmt.Sprintf("drawn %v, %d bets, %d won", m.drawn(), total, len(m.won(everyone))) + b.String()
}
