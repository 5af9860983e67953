package engine_test

import (
	"io"
	"net"
	"testing"
	"time"

	"loteria/codec"
	"loteria/engine/ledger"
)

const (
	hostileTimeout       = time.Second // SERVER_READ_TIMEOUT
	hostileFrameBytesMax = 1 << 20
	// largeBytes is an answer that no socket takes at once.
	largeBytes = 8 << 20
	// hostileConnections are enough for all floods at once.
	hostileConnections = 3 * abuserFlood
)

// hostile is what somebody does to the server, and what must come of it. Each
// has an agency of its own, whose bets it may upload, but not report.
type hostile struct {
	name string
	play func(t *testing.T, v *visitor)
}

// Slow, odd and broken peers, all at once, beside an
// honest agency that uploads all the time, and that must not notice. What
// testdata/transcripts has is not here again.
//
// In the end every agency reports, the draw takes place, and each bet that was
// acknowledged is in the ledger, once.
func TestHostile(t *testing.T) {
	before := hostileBeforeDraw()
	cfg := liveConfig(t)
	cfg.ReadTimeout, cfg.FrameBytesMax, cfg.NoExport = hostileTimeout, hostileFrameBytesMax, true
	cfg.Agencies, cfg.ConnectionsMax = len(before)+2, len(before)+hostileConnections
	s := serveLiveOn(t, cfg, ledger.Options{SegmentBytes: 4 * ledger.SegmentBytesMin})

	large := &visitor{liveServer: s, id: codec.Agency(len(before) + 1)}
	uploads := s.dial(t)
	for len(large.stored)*len(large.bet(largeFrom)) < largeBytes {
		from, count := largeFrom+len(large.stored), hostileFrameBytesMax/len(large.bet(largeFrom)+"\n")
		uploads.say(large.bets(from, count)).hears("ACK")
		large.sure(from, from+count)
	}
	uploads.close()
	good := visitor{liveServer: s, id: codec.Agency(len(before) + 2)}.upload(t)

	visitors := []*visitor{large}
	t.Run("before the draw", func(t *testing.T) {
		for i, h := range before {
			v := &visitor{liveServer: s, id: codec.Agency(i + 1)}
			visitors = append(visitors, v)
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				h.play(t, v)
			})
		}
	})
	good.done(t)
	waiting, winners := make([]*wire, len(visitors)), make([]string, len(visitors))
	for i, v := range visitors {
		waiting[i], winners[i] = s.dial(t).waits(int(v.id)), v.winners()
	}
	// One of them has said its last word (nc -N), and gets the largest answer.
	waiting[0].does(halfCloses)
	s.awaitRead(t)
	good.wire.say(good.asks()).hears(good.winners())
	for i, w := range waiting {
		w.hears(winners[i])
	}

	t.Run("after the draw", func(t *testing.T) {
		for _, h := range hostileAfterDraw() {
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				h.play(t, large)
			})
		}
		t.Run("the honest agency", func(t *testing.T) {
			t.Parallel()
			w := s.dial(t)
			for range 50 {
				w.say(good.asks()).hears(good.winners())
			}
			w.close()
		})
	})

	waiting[0].hearsEnd()
	// Nobody who has gone has left a connection behind: there is room for as many as the limit says.
	var room []*wire
	for range cfg.ConnectionsMax - len(waiting) { // of these one has gone, and the honest one is here
		room = append(room, s.dialUntilRoom(t))
	}
	for _, w := range room {
		w.close()
	}
	if n := s.count("sorteo", "success"); n != 1 {
		t.Errorf("the draw was logged %d times", n)
	}
	for i, w := range waiting {
		if v := visitors[i]; v.confirms {
			w.resumes(v)
			w.confirms(int(v.id))
		}
		w.close()
	}
	good.wire.close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	wantLedger(t, cfg.DataDir, append(visitors, &good.visitor))
}

func hostileBeforeDraw() []hostile {
	all := []hostile{{"takeovers in the middle of an upload", takesOver}}
	for _, a := range abuses {
		all = append(all, hostile{a.name, a.visit})
	}
	return append(all, hostileResets()...)
}

// visit judges what the abuser is told.
func (a abuse) visit(t *testing.T, v *visitor) {
	if a.told == nil {
		a.play(t.Context(), v.Addr().String(), func() net.IP { return nil })
		return
	}
	began := time.Now()
	w := v.dial(t).does(a.acts...)
	for _, code := range a.told {
		w.hears(code.String())
		// The server counts ten ticks, and of two the first may be late.
		const least = hostileTimeout - hostileTimeout/10
		if took := time.Since(began); code == codec.CodeTimeout && took < least {
			t.Errorf("told after %v, want the time-out of %v", took, hostileTimeout)
		}
	}
	if a.kept {
		w.say(v.bets(0, visitBets)).hears("ACK")
		v.sure(0, visitBets)
	} else {
		w.hearsEnd()
	}
	w.close()
}

// Connections of one agency take it over from one another, again and again, each
// while the one before has many batches in flight. WELCOME counts what the one
// before was told to be stored, the next goes on there, and each bet is stored once.
func takesOver(t *testing.T, v *visitor) {
	const (
		takeovers   = 20
		ackedLeast  = 3
		lastBatches = 50
		endless     = 1 << 20 // batches: the takeover comes before
	)
	from := 0
	var old *pipeline
	for round := 0; ; round++ {
		w := v.dial(t)
		stored := w.resumes(v)
		if old != nil {
			<-old.ended
			if old.err != nil || old.said != codec.CodeAgencyTakenOver.String() {
				t.Fatalf("the older connection heard %q, %v", old.said, old.err)
			}
			old.wire.hearsEnd()
			old.wire.close()
			if acked := int(old.acked.Load()); stored != from+acked*visitBets {
				t.Fatalf("%d bets are stored; of those from %d on %d batches of %d were acknowledged", stored, from, acked, visitBets)
			}
		}
		v.sure(from, stored)
		from = stored
		if round == takeovers {
			last := v.pipe(w, from, lastBatches)
			<-last.ended
			if last.err != nil || last.said != "" {
				t.Fatalf("the last connection heard %q, %v", last.said, last.err)
			}
			v.sure(from, from+lastBatches*visitBets)
			w.close()
			return
		}
		old = v.pipe(w, from, endless)
		awaitThat(t, "some ACKs", func() bool { return old.acked.Load() >= ackedLeast })
	}
}

// hostileResets are connections that are reset in the middle of everything. The
// agency comes back, and goes on where WELCOME says. It has said HELLO before:
// nobody can know whose connection it is that has not said a word yet, so bets
// that are its first word may be stored behind another one's WELCOME.
func hostileResets() []hostile {
	var all []hostile
	hello := func(v *visitor) string { return string(frames(v.hello())) }
	bets := func(v *visitor, n int) string { return string(frames(v.bets(n*visitBets, visitBets))) }
	for _, r := range []struct {
		name string
		// acts bring the connection to where it is reset. What it uploads are
		// batches from number 0 on.
		acts func(v *visitor) []act
		// stored are the least and the most batches that are then stored.
		least, most int
		reported    bool
	}{
		{name: "nothing said", acts: func(*visitor) []act { return nil }},
		{name: "half a header", acts: func(*visitor) []act { return []act{raw("10")} }},
		{name: "half a payload", acts: func(v *visitor) []act {
			frame := bets(v, 0)
			return []act{raw(hello(v)), takes, raw(frame[:len(frame)-1])}
		}},
		{name: "an ACK on its way", acts: func(v *visitor) []act { return []act{raw(hello(v)), takes, raw(bets(v, 0))} }, most: 1},
		{name: "many ACKs on their way", acts: func(v *visitor) []act {
			acts := []act{raw(hello(v)), takes}
			for n := range pipelineWindow {
				acts = append(acts, raw(bets(v, n)))
			}
			return acts
		}, most: pipelineWindow},
		{name: "an ACK there and not read", acts: func(v *visitor) []act {
			return []act{raw(hello(v)), takes, raw(bets(v, 0)), peeks}
		}, least: 1, most: 1},
		{name: "waiting for winners", acts: func(v *visitor) []act {
			return []act{raw(hello(v)), takes, raw(bets(v, 0)), takes, raw(string(frames(v.asks(), ""))), takes}
		}, least: 1, most: 1, reported: true},
	} {
		all = append(all, hostile{"reset with " + r.name, func(t *testing.T, v *visitor) {
			v.dial(t).does(r.acts(v)...).does(resets)
			back := v.dial(t)
			stored := back.resumes(v)
			if stored%visitBets != 0 || stored < r.least*visitBets || stored > r.most*visitBets {
				t.Errorf("%d bets are stored, want %d to %d batches of %d", stored, r.least, r.most, visitBets)
			}
			v.sure(0, stored)
			if v.confirms = r.reported; r.reported {
				back.say(v.bets(stored, visitBets)).hears(codec.CodeBetsClosed.String())
			} else {
				back.say(v.bets(stored, visitBets)).hears("ACK")
				v.sure(stored, stored+visitBets)
			}
			back.close()
		}})
	}
	return all
}

// hostileAfterDraw is done to an answer that no socket takes at once.
func hostileAfterDraw() []hostile {
	half := func(w *wire) error {
		_, err := io.CopyN(io.Discard, w.in, largeBytes/2)
		return err
	}
	return []hostile{
		{"asks and never reads", func(t *testing.T, v *visitor) { v.dial(t).does(takesLittle).say(v.asks()).does(peeks, resets) }},
		{"reset with half an answer read", func(t *testing.T, v *visitor) { v.dial(t).say(v.asks()).does(half, resets) }},
		{"half-closed with half an answer read", func(t *testing.T, v *visitor) {
			want := string(frames(v.winners()))
			w := v.dial(t).say(v.asks()).does(half, halfCloses)
			if rest, err := io.ReadAll(w.in); err != nil || string(rest) != want[largeBytes/2:] {
				t.Errorf("the other half: %d bytes, %v", len(rest), err)
			}
			w.close()
		}},
	}
}
