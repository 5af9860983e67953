package front

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/front/fronttest"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/lottery"
)

// Bounds of one schedule.
const (
	fuzzScriptBytesMax = 600
	fuzzPeers          = 4
	fuzzLoops          = 2
)

// FuzzSession reads its input as a schedule: which peer's bytes come when, in what pieces, which
// peer closes, when the committer and the loops get their turn, when time passes and when the
// server is killed. It drives the real handler, sessions, stages, committer, lottery, loops and
// ledger, and compares every answer and every record with the model.
func FuzzSession(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) {
		s := newSchedule(t, script[:min(len(script), fuzzScriptBytesMax)])
		for len(s.script) > 0 {
			s.step()
		}
		s.end()
	})
}

// schedule is one run. One goroutine does everything in it.
type schedule struct {
	t      testing.TB
	script []byte
	cfg    modelConfig
	disk   *ledgertest.FS
	model  *model

	server  *rig
	handler gnet.EventHandler
	loops   []*fronttest.Loop
	peers   [fuzzPeers]*fuzzPeer // nil: not connected
	// ghosts are peers that have closed their side and then vanished. The server can't know before
	// it writes to them.
	ghosts []*fuzzPeer
	// unsure are agencies that were told their winners on a half-closed connection: when the server
	// knows that they have taken them depends on when it looks.
	unsure map[codec.Agency]bool
	draws  int
}

var fuzzNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// The first byte of a script is its settings, one bit each.
const (
	scriptPoll = 1 << iota
	scriptAllWinners
	scriptTwoAgencies
	scriptNarrowWindow
	scriptTwoLoops
	scriptFewPartials
)

// How many half frames a script with scriptFewPartials may have, and how many more until a loop
// that was asked to end the oldest has done so.
const (
	fuzzPartials      = 2
	fuzzPartialsSlack = 1
)

func newSchedule(t testing.TB, script []byte) *schedule {
	s := &schedule{t: t, script: script, disk: ledgertest.NewFS(1), unsure: map[codec.Agency]bool{}}
	s.cfg = modelConfig{Config: testConfig(), loops: 1}
	s.cfg.WinningNumber, s.cfg.FrameBytesMax, s.cfg.Window = 7, codec.BetBytesMax, 5
	s.cfg.ReadTimeout = 50 * time.Millisecond
	s.cfg.ExitGrace = 24 * time.Hour // no peer stays so long
	s.cfg.Now = func() time.Time { return fuzzNow }
	s.cfg.Later = func(_ time.Duration, f func()) { f() } // f only posts to a loop
	settings := s.byte()
	if settings&scriptPoll != 0 {
		s.cfg.poll = true
	}
	if settings&scriptAllWinners != 0 {
		s.cfg.allWinners = true
	}
	if settings&scriptTwoAgencies != 0 {
		s.cfg.Agencies = 2
	}
	if settings&scriptNarrowWindow != 0 {
		s.cfg.Window = 2
	}
	if settings&scriptTwoLoops != 0 {
		s.cfg.loops = fuzzLoops
	}
	s.model = newModel(s.cfg, codec.DateOf(fuzzNow))
	s.start()
	if settings&scriptFewPartials != 0 {
		s.setPartials(fuzzPartials, fuzzPartials+fuzzPartialsSlack)
	}
	return s
}

// setPartials makes room for fit half frames, which are all small, and with the slack for top.
func (s *schedule) setPartials(fit, top int) {
	s.model.partialsMax, s.model.partialsTop = fit, top
	limit := s.server.front.partialLimit()
	limit.bytesMax, limit.bytesTop = int64(fit*partialBytesMin), int64(top*partialBytesMin)
}

// byte takes the script's next byte; at its end it returns 0.
func (s *schedule) byte() byte {
	if len(s.script) == 0 {
		return 0
	}
	b := s.script[0]
	s.script = s.script[1:]
	return b
}

// start begins a life of the server, on the ledger that the last one left.
func (s *schedule) start() {
	rules := lottery.Rules{Agencies: s.cfg.Agencies, Poll: s.cfg.poll, AllWinners: s.cfg.allWinners}
	options := ledger.Options{FS: s.disk, SegmentBytes: ledger.SegmentBytesMin}
	s.server = newRig(s.t, s.cfg.Config, rules, s.cfg.loops, rigDir, options, zap.NewNop())
	s.handler, s.loops = s.server.front.Handler(), nil
	s.model.ticksQuiet = int(s.server.front.timeoutTicks)
	if s.model.partialsMax > 0 {
		s.setPartials(s.model.partialsMax, s.model.partialsTop)
	}
	for _, lp := range s.server.front.loops {
		own := new(fronttest.Loop)
		lp.Attach(own)
		s.loops = append(s.loops, own)
	}
	s.checkState()
}

// kill ends the server's process between two steps.
func (s *schedule) kill() {
	for _, lp := range s.server.front.loops {
		lp.closeHalves()
	}
	for i, p := range s.peers {
		if p != nil {
			p.hangUp()
			s.peers[i] = nil
		}
	}
	s.ghosts = nil
	s.disk.Kill()
	s.model.restart()
}

// step does what the next byte of the script says.
func (s *schedule) step() {
	what := s.byte()
	at := int(what >> 3)
	switch what & 7 {
	case 0, 1: // a whole message
		p := s.peer(at)
		p.pending = append(p.pending, s.message()...)
		s.deliver(p, len(p.pending))
	case 2: // a message of which only a part comes
		p := s.peer(at)
		p.pending = append(p.pending, s.message()...)
		s.deliver(p, int(s.byte()))
	case 3: // any bytes
		p := s.peer(at)
		n := min(int(s.byte()%32), len(s.script))
		p.pending = append(p.pending, s.script[:n]...)
		s.script = s.script[n:]
		s.deliver(p, len(p.pending))
	case 4:
		s.commit()
	case 5:
		s.run(s.loops[at%len(s.loops)])
	case 6:
		s.tick(1 + at)
	case 7:
		s.leave(at)
	}
	s.check()
}

// peer returns the at-th peer, and connects it if it isn't.
func (s *schedule) peer(at int) *fuzzPeer {
	at %= fuzzPeers
	if s.peers[at] == nil {
		session, _, ok := s.server.front.Admit(Source{})
		if !ok {
			s.t.Fatal("a connection is refused")
		}
		p := &fuzzPeer{Conn: fronttest.Conn{Session: session}, handler: s.handler, session: session, dup: -1, end: -1}
		if action := s.server.front.Open(session, p); action != gnet.None {
			s.t.Fatalf("a connection is answered with action %v", action)
		}
		p.model = s.model.connect(slices.Index(s.server.front.loops, session.loop))
		s.peers[at] = p
	}
	return s.peers[at]
}

// fuzzMessages are what peers say besides random bytes. An agency id 1 at the end of a line becomes
// the id that the script asks for.
var fuzzMessages = []string{
	"HELLO|1", "GET_WINNERS|1",
	"A|B|1|1990-05-23|7|1", "A|B|1|1990-05-23|8|1", "C|D|2|2000-02-29|007|1\nE|F|3|1990-05-23|7|1\n", "G|H|4|2026-11-23|6|1\n",
	"A|B|1|1990-05-23|7|1\nC|D|2|1990-02-30|7|1", "C|D|2|2026-11-24|7|1", "I|J|5|1990-05-23|7|1\nK|L|6|1990-05-23|7|2",
	"HELLO|N|7|1990-05-23|7|1", "GET_WINNERS|N|7|1990-05-23|7|1", "HELLO|x", "GET_WINNERS", "HELLO", "", "\n\n", "ACK",
	"A|B|1|1990-05-23|7|1\n\nA|B|1|1990-05-23|7|1", "A|B|1|1990-05-23|7|1\r\n",
}

// fuzzStreams are sent as they are, without a frame.
var fuzzStreams = []string{"07\n", "x", "-1\n", "7\r\n", "310\n", "99999999999999999999", strings.Repeat("0\n", 6)}

// fuzzReceipts are sent as the messages are.
var fuzzReceipts = []string{"RECEIVED|1", "RECEIVED|N|7|1990-05-23|7|1", "RECEIVED|x"}

// message returns what the script's next byte asks for, framed.
func (s *schedule) message() []byte {
	b := int(s.byte())
	which, id := b%32, b/32
	var payload string
	switch stream := which - len(fuzzMessages); {
	case stream < 0:
		payload = fuzzMessages[which]
	case stream < len(fuzzStreams):
		return []byte(fuzzStreams[stream])
	default:
		payload = fuzzReceipts[(stream-len(fuzzStreams))%len(fuzzReceipts)]
	}
	if agency := [...]string{"1", "2", "1", "2", "3", "0", "01", "1000000000"}[id]; agency != "1" {
		payload = strings.ReplaceAll(payload+"\n", "|1\n", "|"+agency+"\n")
		payload = payload[:len(payload)-1]
	}
	return codec.AppendFrame(nil, []byte(payload))
}

// deliver lets the server read the next n bytes of a peer.
func (s *schedule) deliver(p *fuzzPeer, n int) {
	if p.closed {
		return // the server has closed it, or the peer has closed its side
	}
	n = min(n, len(p.pending))
	// The loop uses its read buffer again, so the session may keep nothing of it.
	p.In = slices.Clone(p.pending[:n])
	p.pending = p.pending[n:]
	if n == 0 {
		return
	}
	s.model.hear(p.model, p.In)
	if action := s.handler.OnTraffic(p); action != gnet.None {
		s.t.Fatalf("OnTraffic returns action %v", action)
	}
	clear(p.In)
}

// commit is a turn of the committer.
func (s *schedule) commit() {
	if s.server.awake() {
		if s.server.commit(s.t) {
			s.draws++
		}
	} else {
		// Nothing was handed over, so there must be nothing to decide.
		for i, stage := range s.server.committer.Stages() {
			if !stage.HasRoom(commit.RequestsMax, 0) {
				s.t.Fatalf("requests of loop %d wait, and the committer was not woken", i)
			}
		}
	}
	s.model.commit()
}

// run is a turn of an event loop.
func (s *schedule) run(lp *fronttest.Loop) {
	tasks, err := lp.Run()
	if err != nil {
		s.t.Fatal(err)
	}
	s.listen()
	if tasks > 0 {
		s.model.run(slices.Index(s.loops, lp))
	}
}

func (s *schedule) runAll() {
	for _, lp := range s.loops {
		s.run(lp)
	}
}

// tick lets time pass. Before and after each tick the loops send their answers.
func (s *schedule) tick(ticks int) {
	for range ticks {
		s.runAll()
		s.server.front.Tick()
		s.model.ticks()
		s.runAll()
	}
}

// leave ends a connection, or all of them.
func (s *schedule) leave(how int) {
	p := s.peers[how%fuzzPeers]
	switch how /= fuzzPeers; {
	case how == 7:
		s.kill()
		s.start()
	case p == nil:
	case how < 3:
		s.closeSide(p)
	default:
		s.reset(p)
		s.peers[slices.Index(s.peers[:], p)] = nil
	}
}

// closeSide makes a peer shut its side: it will say nothing more.
func (s *schedule) closeSide(p *fuzzPeer) {
	if p.closed {
		return
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.SetNonblock(fds[0], true), unix.SetNonblock(fds[1], true))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	p.closed, p.half = true, true
	p.dup, p.end = fds[0], fds[1]
	s.handler.OnClose(p, io.EOF)
	p.left = p.session.phase == gone
	if owed := s.model.halfClose(p.model); owed == p.left {
		s.t.Fatalf("a peer closes its side, is owed something: %v; the server drops it: %v", owed, p.left)
	}
	if p.dup >= 0 { // the server didn't take the duplicate
		_ = unix.Close(p.dup)
		p.dup = -1
	}
}

// reset breaks a connection. Its peer is gone.
func (s *schedule) reset(p *fuzzPeer) {
	p.hangUp()
	switch {
	case p.left:
	case p.half:
		s.ghosts = append(s.ghosts, p)
	default:
		p.closed, p.left = true, true
		s.handler.OnClose(p, errors.New("connection reset by peer"))
		s.model.leave(p.model)
	}
}

// listen takes what the peers were told, and notes which of them the server has closed.
func (s *schedule) listen() {
	for _, p := range slices.Concat(s.peers[:], s.ghosts) {
		if p == nil {
			continue
		}
		p.read()
		for {
			payload, rest, ok, err := codec.SplitFrame(p.told[p.split:], codec.ReplyBytesMaxDefault)
			if err != nil {
				s.t.Fatalf("told %q: %v", p.told, err)
			}
			if !ok {
				break
			}
			p.split = len(p.told) - len(rest)
			if err := s.model.peerHears(p.model, payload); err != nil {
				s.t.Fatalf("told %q: %v", p.told, err)
			}
			if p.half && p.model.told {
				s.unsure[p.model.agency] = true
			}
		}
		if p.session.phase == gone && !p.left {
			p.left = true
			vanished := p.half && p.end < 0
			if !p.model.over && !vanished && !p.answered() && !s.server.front.stopping.Load() {
				s.t.Fatalf("a peer is closed that has heard %d of %d answers: %q", p.model.heard, p.model.frames, p.told)
			}
			s.model.leave(p.model)
		}
	}
}

// check compares what every peer was told so far with the model.
func (s *schedule) check() {
	if err := s.server.front.checkPartials(); err != nil {
		s.t.Fatal(err)
	}
	for i, p := range s.peers {
		if p != nil && !strings.HasPrefix(p.model.owed, string(p.told)) {
			s.t.Fatalf("peer %d is told %q, and should be told %q", i, p.told, p.model.owed)
		}
	}
}

// drain lets the server do everything that it can do, and checks that all answers have come.
func (s *schedule) drain() {
	for busy := true; busy; {
		busy = len(s.server.committer.Wake()) > 0
		s.commit()
		for _, lp := range s.loops {
			busy = busy || lp.Busy()
		}
		s.runAll()
	}
	s.check()
	for i, p := range s.peers {
		if p == nil {
			continue
		}
		if string(p.told) != p.model.owed && !(p.left && p.answered()) {
			s.t.Fatalf("peer %d is told %q at last, and should be told %q", i, p.told, p.model.owed)
		}
		if sess := p.session; !p.left && !p.model.over && int(sess.unanswered) != p.model.frames-p.model.heard {
			s.t.Fatalf("peer %d: %d frames unanswered, want %d", i, sess.unanswered, p.model.frames-p.model.heard)
		}
	}
}

// end stops the server and checks what it has stored.
func (s *schedule) end() {
	s.drain()
	s.tick(1) // now the server knows what half-closed peers have taken
	s.drain()
	s.checkState()
	for i, p := range s.peers {
		if p != nil && p.half && p.model.told && !p.model.gone && !s.model.confirms[p.model.agency] && !s.model.served[p.model.agency] {
			s.t.Fatalf("peer %d has taken its winners, and agency %d is not served", i, p.model.agency)
		}
	}
	s.server.stop()
	s.model.dismiss()
	s.runAll()
	s.check()
	for i, p := range s.peers {
		if p != nil && string(p.told) != p.model.owed && !(p.left && p.answered()) {
			s.t.Fatalf("peer %d is told %q when the server stops, and should be told %q", i, p.told, p.model.owed)
		}
	}
	s.checkLedger()
	s.kill()
	s.start() // a replay must lead to the same state
	if err := s.server.ledger.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// checkState compares what the committer knows with the model.
func (s *schedule) checkState() {
	state := s.server.committer.Lottery()
	for id := codec.Agency(1); int(id) <= s.cfg.Agencies; id++ {
		if state.Stored(id) != s.model.stored(id) || state.Reported(id) != s.model.reported(id) {
			s.t.Fatalf("agency %d: %d stored, reported %v; want %d, %v", id, state.Stored(id), state.Reported(id), s.model.stored(id), s.model.reported(id))
		}
	}
	s.checkServed(state)
	if state.Drawn() != s.model.drawn() || s.draws > 1 || s.draws == 1 && !state.Drawn() {
		s.t.Fatalf("drawn %v, announced %d times; want %v", state.Drawn(), s.draws, s.model.drawn())
	}
	if got, want := state.OpenSessions(), s.model.speakers(); got != want {
		s.t.Fatalf("%d sessions speak for an agency, want %d", got, want)
	}
	least, most := s.model.agencySockets(s.unsure)
	if got := s.server.committer.Exit().Open(); got < least || got > most {
		s.t.Fatalf("%d sockets count as agencies', want %d to %d", got, least, most)
	}
}

// checkServed compares which agencies have their winners. What a half-closed peer has taken counts
// from the loop's next tick on. If the peer has vanished by then, the server may know it or not.
func (s *schedule) checkServed(state *lottery.Lottery) {
	for id := codec.Agency(1); int(id) <= s.cfg.Agencies; id++ {
		late := s.unsure[id]
		for _, p := range slices.Concat(s.peers[:], s.ghosts) {
			late = late || p != nil && p.half && p.model.told && p.model.agency == id
		}
		if got, want := state.Served(id), s.model.served[id]; got != want && !(got && late) {
			s.t.Fatalf("agency %d has its winners: the server says %v, want %v", id, got, want)
		}
		if late && state.Served(id) {
			s.model.served[id] = true // from now on it must stay so
		}
	}
}

// checkLedger compares the stored records with the model's.
func (s *schedule) checkLedger() {
	var found []modelEntry
	reader := history.Reader{
		OnBets: func(id codec.Agency, count int, payload []byte, _ ledger.Checksum) error {
			e := modelEntry{id, string(payload)}
			if n := len(e.lines()); n != count {
				return fmt.Errorf("a record of %d bets holds %d", count, n)
			}
			found = append(found, e)
			return nil
		},
		OnReported: func(id codec.Agency, confirms bool) error {
			if confirms != s.model.confirms[id] {
				return fmt.Errorf("agency %d confirms: %v", id, confirms)
			}
			found = append(found, modelEntry{agency: id})
			return nil
		},
		OnServed: func(id codec.Agency) error {
			if !s.model.served[id] {
				return fmt.Errorf("agency %d has its winners, and should not", id)
			}
			return nil
		},
	}
	if _, err := ledger.Scan(history.Dir(rigDir), ledger.Options{FS: s.disk}, reader.Visit); err != nil {
		s.t.Fatal(err)
	}
	if !slices.Equal(found, s.model.log) {
		s.t.Fatalf("stored is %+v, want %+v", found, s.model.log)
	}
}

// fuzzPeer is both ends of a connection. To the handler it is gnet's connection, to the session it
// is the socket. The peer takes at once what it is told.
type fuzzPeer struct {
	fronttest.Conn
	handler gnet.EventHandler
	session *Session
	model   *modelConn
	pending []byte // said, but not read by the server
	told    []byte
	split   int  // told up to here has been split into frames
	closed  bool // gnet's connection is closed
	half    bool // the peer has closed its side
	left    bool // the model knows that it is gone

	// Of a half-closed connection: the socket that Dup returns, and the peer's end of it. -1 is
	// none.
	dup, end int
}

func (p *fuzzPeer) Unacknowledged() (int, error) { return 0, nil }
func (p *fuzzPeer) ShutWrite()                   {}

func (p *fuzzPeer) Send(b []byte) (int, error) {
	if p.closed {
		panic(fmt.Sprintf("a write to a closed connection: %q", b))
	}
	p.told = append(p.told, b...)
	return len(b), nil
}

// Drop closes the connection as gnet does: OnClose is called inside.
func (p *fuzzPeer) Drop() {
	if !p.closed {
		p.closed = true
		p.handler.OnClose(p, nil)
	}
}

func (p *fuzzPeer) Dup() (int, error) {
	fd := p.dup
	p.dup = -1
	return fd, nil
}

// read takes what has come to a half-closed peer.
func (p *fuzzPeer) read() {
	var b [512]byte
	for p.end >= 0 {
		n, err := unix.Read(p.end, b[:])
		if n <= 0 || err != nil {
			return
		}
		p.told = append(p.told, b[:n]...)
	}
}

// answered reports whether the peer has closed its side and got all its answers. Then the server
// may close it: the peer need not hear of a takeover.
func (p *fuzzPeer) answered() bool { return p.half && p.model.heard == p.model.frames }

func (p *fuzzPeer) hangUp() {
	if p.end >= 0 {
		_ = unix.Close(p.end)
		p.end = -1
	}
}
