package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
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
	cfg.Agencies = len(before) + 2
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
	if err := waiting[0].conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, "its end to be seen", func() bool {
		half := 0
		s.onLoops(t, func(lp *loop) {
			for _, sess := range lp.sessions {
				if sess.half() {
					half++
				}
			}
		})
		return half > 0
	})
	good.wire.say(good.asks()).hears(good.winners())
	for i, w := range waiting {
		w.hearsLarge(winners[i])
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
	all := []hostile{
		{"a header that never ends", saysRaw([]byte("1048"), codec.CodeTimeout)},
		{"newlines without end", saysRaw(bytes.Repeat([]byte{'\n'}, 64<<10), codec.CodeInvalidFrame)},
		{"10 MB without a newline", saysRaw(bytes.Repeat([]byte{'A'}, 10<<20), codec.CodeInvalidFrame)},
		{"a length of 10 MB", saysRaw(bytes.Repeat([]byte{'9'}, 10<<20), codec.CodeFrameTooLarge)},
		{"10 MB of NUL", saysRaw(make([]byte, 10<<20), codec.CodeInvalidFrame)},
		{"a batch of newlines", saysFrame(strings.Repeat("\n", 64<<10), codec.CodeEmptyBatch)},
		{"a batch of NUL", saysFrame(string(make([]byte, 64<<10)), codec.CodeInvalidBatch)},
		{"a batch that is not UTF-8", saysFrame(strings.Repeat("\xff", 64<<10), codec.CodeInvalidBatch)},
		{"a batch of one line without end", saysFrame(strings.Repeat("A", hostileFrameBytesMax), codec.CodeInvalidBatch)},
		{"a byte now and then, of a payload", dribbles("1000\n"+strings.Repeat("A", 1000), 10*time.Millisecond)},
		{"a byte now and then, of a header", dribbles("104857", 300*time.Millisecond)},
		{"TLS", speaksTLS},
		{"HTTP GET", speaksHTTP(http.MethodGet)},
		{"HTTP POST", speaksHTTP(http.MethodPost)},
		{"takeovers in the middle of an upload", takesOver},
	}
	return append(all, hostileResets()...)
}

// saysRaw is bytes after which the connection is closed with a code.
func saysRaw(b []byte, code codec.Code) func(*testing.T, *visitor) {
	return func(t *testing.T, v *visitor) {
		w := v.dial(t).raw(b).hears(code.String())
		w.hearsEnd()
		w.close()
	}
}

// saysFrame is a frame that is rejected, and the connection kept.
func saysFrame(payload string, code codec.Code) func(*testing.T, *visitor) {
	return func(t *testing.T, v *visitor) {
		w := v.dial(t).say(payload).hears(code.String())
		w.say(v.bets(0, visitBets)).hears("ACK")
		v.sure(0, visitBets)
		w.close()
	}
}

// dribbles is a frame that comes a byte at a time, and slower than it may.
func dribbles(raw string, every time.Duration) func(*testing.T, *visitor) {
	return func(t *testing.T, v *visitor) {
		w := v.dial(t)
		told, quiet := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(quiet)
			next := time.NewTicker(every)
			defer next.Stop()
			for i := range len(raw) {
				if _, err := w.conn.Write([]byte{raw[i]}); err != nil {
					t.Error(err)
				}
				select {
				case <-next.C:
				case <-told:
					return
				}
			}
		}()
		began := time.Now()
		w.hears(codec.CodeTimeout.String())
		if took := time.Since(began); took < hostileTimeout {
			t.Errorf("told after %v, want the time-out of %v", took, hostileTimeout)
		}
		close(told)
		<-quiet
		w.hearsEnd()
		w.close()
	}
}

// What a TLS client says is no length, and what it hears is no TLS.
func speaksTLS(t *testing.T, v *visitor) {
	w := v.dial(t)
	err := tls.Client(w.conn, &tls.Config{ServerName: "loteria.example"}).HandshakeContext(t.Context())
	var header tls.RecordHeaderError
	if !errors.As(err, &header) || string(header.RecordHeader[:]) != "19\nER" {
		t.Errorf("handshake: %v, want the first bytes of %v", err, codec.CodeInvalidFrame)
	}
	rest, err := io.ReadAll(w.conn)
	if err != nil || !strings.HasSuffix(codec.CodeInvalidFrame.String(), string(rest)) {
		t.Errorf("then %q, %v; want the rest of %v and the end", rest, err, codec.CodeInvalidFrame)
	}
}

// A request of HTTP is no frame, and nothing of its body is, either.
func speaksHTTP(method string) func(*testing.T, *visitor) {
	return func(t *testing.T, v *visitor) {
		body := bytes.NewReader(frames(v.bets(0, visitBets)))
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+v.Addr().String()+"/", body)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		answer, err := transport.RoundTrip(r)
		if err == nil {
			t.Fatal("an answer in HTTP:", answer.Status, answer.Body.Close())
		}
		if want := `malformed HTTP response "19"`; !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
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
	for _, r := range []struct {
		name string
		// says brings the connection to where it is reset. What it uploads are
		// batches from number 0 on.
		says func(v *visitor, w *wire)
		// stored are the least and the most batches that are then stored.
		least, most int
		reported    bool
	}{
		{name: "nothing said", says: func(*visitor, *wire) {}},
		{name: "half a header", says: func(_ *visitor, w *wire) { w.raw([]byte("10")) }},
		{name: "half a payload", says: func(v *visitor, w *wire) {
			w.resumes(v)
			frame := frames(v.bets(0, visitBets))
			w.raw(frame[:len(frame)-1])
		}},
		{name: "an ACK on its way", says: func(v *visitor, w *wire) {
			w.resumes(v)
			w.say(v.bets(0, visitBets))
		}, most: 1},
		{name: "many ACKs on their way", says: func(v *visitor, w *wire) {
			w.resumes(v)
			for n := range pipelineWindow {
				w.say(v.bets(n*visitBets, visitBets))
			}
		}, most: pipelineWindow},
		{name: "an ACK there and not read", says: func(v *visitor, w *wire) {
			w.resumes(v)
			w.say(v.bets(0, visitBets))
			if _, err := w.in.Peek(1); err != nil {
				w.t.Fatal(err)
			}
		}, least: 1, most: 1},
		{name: "waiting for winners", says: func(v *visitor, w *wire) {
			w.resumes(v)
			w.say(v.bets(0, visitBets)).hears("ACK").waits(int(v.id))
		}, least: 1, most: 1, reported: true},
	} {
		all = append(all, hostile{"reset with " + r.name, func(t *testing.T, v *visitor) {
			w := v.dial(t)
			r.says(v, w)
			w.kill()
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
	return []hostile{
		{"asks and never reads", func(t *testing.T, v *visitor) {
			w := v.dial(t).say(v.asks())
			awaitThat(t, "an answer that is not read", func() bool { n, _ := v.unread(t, w); return n > 0 })
			w.kill()
			awaitThat(t, "the end of the session", func() bool { _, here := v.unread(t, w); return !here })
		}},
		{"reset with half an answer read", func(t *testing.T, v *visitor) {
			w := v.dial(t).say(v.asks())
			if _, err := io.CopyN(io.Discard, w.in, largeBytes/2); err != nil {
				t.Error(err)
			}
			w.kill()
			awaitThat(t, "the end of the session", func() bool { _, here := v.unread(t, w); return !here })
		}},
		{"half-closed with half an answer read", func(t *testing.T, v *visitor) {
			want := frames(v.winners())
			w := v.dial(t).say(v.asks())
			got := make([]byte, len(want))
			if _, err := io.ReadFull(w.in, got[:len(got)/2]); err != nil {
				t.Fatal(err)
			}
			if err := w.conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := io.ReadFull(w.in, got[len(got)/2:]); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the other half: %d bytes, %v", n, err)
			}
			w.hearsEnd()
			w.close()
		}},
	}
}
