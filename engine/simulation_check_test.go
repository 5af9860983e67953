package engine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/lottery"
)

// audit watches a connection at the server's end: which requests the server has read, and what it
// has said. An answer counts as a promise from the moment it leaves.
type audit struct {
	agency      codec.Agency // 0: a stranger
	in, out     []byte       // half frames
	questions   []question
	winnersSaid bool
	proved      bool // the server has said AUTHENTICATED
	lastSaid    bool // the server has said an error that closes: nothing may follow

	owed []codec.Code // what a stranger still has to be told, in order
	deaf bool         // what a stranger says from now on is not read

	challenged bool // a stranger has said AUTH
}

// question is a request that the server has read and not answered yet.
type question struct {
	kind         codec.RequestKind
	first, count int  // of bets; of HELLO: count is how many bets were promised before
	drawn        bool // of GET_WINNERS: some agency had been told of the draw before
}

// asked takes the bytes that the server reads.
func (a *audit) asked(c *simConn, b []byte) {
	if a.agency == 0 {
		a.strangeAsked(c, b)
		return
	}
	owner := c.link.world.agencies[a.agency-1]
	a.in = append(a.in, b...)
	for {
		payload, rest, ok, err := codec.SplitFrame(a.in, codec.FrameBytesMaxLimit)
		if err != nil || !ok {
			return
		}
		a.in = rest
		q := question{kind: codec.RequestBets}
		switch {
		case bytes.HasPrefix(payload, []byte("AUTH|")):
			q.kind = simAuth
		case bytes.HasPrefix(payload, []byte("PROOF|")):
			q.kind = simProof
		case bytes.HasPrefix(payload, []byte("HELLO|")):
			q.kind, q.count = codec.RequestHello, owner.promised
		case bytes.HasPrefix(payload, []byte("GET_WINNERS|")):
			q.kind, q.drawn = codec.RequestGetWinners, c.link.world.promised
			owner.reportRead = true
		case bytes.HasPrefix(payload, []byte("RECEIVED|")):
			q.kind = codec.RequestReceived
		default:
			q.first, q.count = simIndex(payload), codec.Lines(payload)
		}
		a.questions = append(a.questions, q)
	}
}

// simIndex is the index, among its agency's bets, of the first bet in line.
func simIndex(line []byte) int {
	fields := bytes.SplitN(line, []byte{'|'}, 4)
	n, err := strconv.Atoi(string(fields[2]))
	if err != nil {
		panic(err)
	}
	return n - simDocument
}

// answered takes the bytes that the server says.
func (a *audit) answered(c *simConn, b []byte) {
	w := c.link.world
	a.out = append(a.out, b...)
	for {
		payload, rest, ok, err := codec.SplitFrame(a.out, codec.ReplyBytesMaxDefault)
		if err != nil {
			w.failf("link %d: the server says %q: %v", c.link.id, b, err)
		}
		if !ok {
			return
		}
		a.out = rest
		if a.lastSaid {
			w.failf("link %d: %q after the last answer", c.link.id, payload)
		}
		reply, err := codec.ParseReply(payload)
		if err != nil {
			w.failf("link %d: %v", c.link.id, err)
		}
		a.answer(c, reply)
	}
}

func (a *audit) answer(c *simConn, reply codec.Reply) {
	if a.agency == 0 {
		a.strangeAnswered(c, reply)
		return
	}
	w := c.link.world
	owner := w.agencies[a.agency-1]
	if guarded := reply.Kind == codec.ReplyAck || reply.Kind == codec.ReplyWelcome || reply.Kind == codec.ReplyWinners; guarded && w.guard != nil && !a.proved {
		w.failf("link %d: %+v for an agency that has not authenticated", c.link.id, reply)
	}
	switch reply.Kind {
	case codec.ReplyChallenge:
		a.take(c, simAuth, "CHALLENGE")
	case codec.ReplyAuthenticated:
		a.take(c, simProof, "AUTHENTICATED")
		a.proved = true
		w.seen[seenAuthenticated]++
	case codec.ReplyAck:
		q := a.take(c, codec.RequestBets, "ACK")
		if q.kind == codec.RequestReceived {
			owner.receiptPromised = true
			break
		}
		owner.promise(q.first, q.count)
	case codec.ReplyWelcome:
		q := a.take(c, codec.RequestHello, "WELCOME")
		stored := int(reply.Welcome.Stored)
		if stored < q.count {
			w.failf("link %d: WELCOME says %d, %d were promised before", c.link.id, stored, q.count)
		}
		owner.promised = max(owner.promised, stored)
	case codec.ReplyWinners:
		a.take(c, codec.RequestGetWinners, "winners")
		a.winnersSaid, owner.reportPromised, w.promised = true, true, true
		if !c.link.server.committer.Lottery().Drawn() {
			w.failf("link %d: winners before the draw", c.link.id)
		}
		if !w.allWinners && !owner.old && !bytes.Equal(reply.Winners, owner.won) {
			w.failf("link %d: winners %q, want %q", c.link.id, reply.Winners, owner.won)
		}
	case codec.ReplyError:
		a.refused(c, owner, reply.Code)
	}
	if w.said != nil {
		w.said(owner)
	}
}

func (a *audit) refused(c *simConn, owner *simAgency, code codec.Code) {
	w := c.link.world
	a.lastSaid = code.Closes()
	switch code {
	case codec.CodeLotteryHasntEnded:
		if q := a.take(c, codec.RequestGetWinners, code.String()); q.drawn {
			w.failf("link %d: %v, and there was a draw before agency %d asked", c.link.id, code, owner.id)
		}
		owner.reportPromised = true
		if !w.poll && !c.link.server.dismissing {
			w.failf("link %d: %v in push mode", c.link.id, code)
		}
	case codec.CodeTimeout:
		w.seen[seenTimeout]++
	case codec.CodeAgencyTakenOver, codec.CodeStorage:
	case codec.CodeBetsClosed:
		// An old agency that doesn't know what became of a batch sends it again. The server may
		// read its first try after the agency has reported.
		if a.take(c, codec.RequestBets, code.String()); !owner.old {
			w.failf("link %d: %v", c.link.id, code)
		}
	default:
		w.failf("link %d: the server says %v", c.link.id, code)
	}
}

// take removes and returns the question that an answer belongs to. It is the oldest one, except
// that the answer to GET_WINNERS may come later.
func (a *audit) take(c *simConn, kind codec.RequestKind, answer string) question {
	for i, q := range a.questions {
		if q.kind == kind || kind == codec.RequestBets && q.kind == codec.RequestReceived {
			a.questions = slices.Delete(a.questions, i, i+1)
			return q
		}
		if q.kind != codec.RequestGetWinners && kind != codec.RequestGetWinners {
			break
		}
	}
	c.link.world.failf("link %d: %s answers none of the questions %+v", c.link.id, answer, a.questions)
	panic("unreachable")
}

// promise notes that bets were acknowledged.
func (a *simAgency) promise(first, count int) {
	if a.old {
		for i := range count {
			a.acked[first+i]++
		}
		return
	}
	if first > a.promised {
		a.world.failf("agency %d: an ACK of bets %d to %d, but only %d before them are promised", a.id, first, first+count, a.promised)
	}
	a.promised = max(a.promised, first+count)
}

// checkQuiet checks that a server keeps nothing of connections when all of them are closed.
func (w *world) checkQuiet() {
	w.chaosUntil = w.step
	for len(w.strangers) > 0 {
		w.strangers[0].end()
	}
	for last := w.step + simStepsMax; w.server != nil && !w.quiet(); w.step++ {
		if w.step == last {
			w.failf("the server is not quiet after %d steps, with %d links", simStepsMax, len(w.links))
		}
		w.next()
	}
	if w.server == nil {
		return // it has ended
	}
	if n := w.server.front.Connections(); n != 0 {
		w.failf("all connections are closed, the server has %d", n)
	}
	if n := w.server.committer.Exit().Open(); n != 0 {
		w.failf("all connections are closed, the exit rule has %d", n)
	}
	if n := w.server.committer.Lottery().OpenSessions(); n != 0 {
		w.failf("all connections are closed, the lottery has %d sessions", n)
	}
	for _, lp := range w.server.front.Loops() {
		if n := lp.Sessions(); n > 0 {
			w.failf("all connections are closed, a loop has %d sessions", n)
		}
	}
	if held := w.server.front.PartialBytes(); held != 0 {
		w.failf("all connections are closed, %d bytes of half frames are counted", held)
	}
}

// quiet reports whether all connections are gone and the loops have nothing to do.
func (w *world) quiet() bool { return len(w.links) == 0 && w.server.handedOver() }

// checkLoop checks the bounds of a loop's memory.
func (w *world) checkLoop(lp *simLoop) {
	s := lp.server
	if s.gone {
		return
	}
	const slack = 9.0 / 8
	frame := int64(simPartialBytes + s.cfg.FrameBytesMax)
	if held := s.front.PartialBytes(); held > max(int64(slack*float64(s.cfg.PartialBytesMax)), frame)+int64(len(s.loops))*frame {
		w.failf("%d bytes of half frames are held, the limit is %d", held, s.cfg.PartialBytesMax)
	}
	for _, c := range lp.conns {
		// One more is for the error that ends the session.
		if n := c.session().Unanswered(); n > s.cfg.Window+1 {
			w.failf("a session has %d unanswered frames, the window is %d", n, s.cfg.Window)
		}
	}
}

// contents is what a ledger holds.
type contents struct {
	stored   [][]int // by agency: bets, in the ledger's order
	won      [][]byte
	all      []byte // winning lines
	reported []bool
	served   []bool
}

func (w *world) newContents() *contents {
	n := len(w.agencies)
	return &contents{stored: make([][]int, n), won: make([][]byte, n), reported: make([]bool, n), served: make([]bool, n)}
}

// visit returns a function that reads records into c: a line at a time, and without the lottery.
func (w *world) visit(c *contents) func(ledger.Record) error {
	reader := &history.Reader{
		OnBets: func(id codec.Agency, count int, payload []byte, _ ledger.Checksum) error {
			lines := bytes.Split(bytes.TrimSuffix(payload, []byte{'\n'}), []byte{'\n'})
			if len(lines) != count || c.reported[id-1] {
				w.failf("ledger: %d bets in a record of %d of agency %d, which has reported: %v", len(lines), count, id, c.reported[id-1])
			}
			for _, line := range lines {
				i := simIndex(line)
				c.stored[id-1] = append(c.stored[id-1], i)
				if bets := w.agencies[id-1].bets; i >= len(bets) || !bytes.Equal(bets[i][:len(bets[i])-1], line) {
					w.failf("ledger: %q is no bet of agency %d", line, id)
				}
				if bytes.Contains(line, []byte("|"+strconv.Itoa(simWinning)+"|")) {
					won := append(bytes.Clone(line), '\n')
					c.won[id-1], c.all = append(c.won[id-1], won...), append(c.all, won...)
				}
			}
			return nil
		},
		OnReported: func(id codec.Agency, confirms bool) error {
			if confirms == w.agencies[id-1].old {
				w.failf("ledger: agency %d confirms: %v", id, confirms)
			}
			if c.reported[id-1] {
				w.failf("ledger: agency %d reports twice", id)
			}
			c.reported[id-1] = true
			return nil
		},
		OnServed: func(id codec.Agency) error {
			if a := w.agencies[id-1]; !c.drawn() || c.served[id-1] || !a.received {
				w.failf("ledger: agency %d is served; drawn: %v, before: %v, it has its winners: %v", id, c.drawn(), c.served[id-1], a.received)
			}
			c.served[id-1] = true
			return nil
		},
	}
	return reader.Visit
}

// readLedger reads what is in the ledger now.
func (w *world) readLedger() *contents {
	c := w.newContents()
	if _, err := ledger.Scan(history.Dir(simDir), ledger.Options{FS: w.disk}, w.visit(c)); err != nil {
		w.failf("ledger: %v", err)
	}
	return c
}

func (c *contents) drawn() bool { return !slices.Contains(c.reported, false) }

// checkRecovered checks that a start has found everything that was promised.
func (w *world) checkRecovered() {
	c := w.readLedger()
	for i, a := range w.agencies {
		w.checkStored(a, c.stored[i])
		switch {
		case a.reportPromised && !c.reported[i]:
			w.failf("the report of agency %d is lost", a.id)
		case c.reported[i] && !a.reportRead:
			w.failf("the ledger says that agency %d has reported, but it has not", a.id)
		case a.receiptPromised && !c.served[i]:
			w.failf("the receipt of agency %d is lost", a.id)
		case c.served[i] != w.server.committer.Lottery().Served(a.id):
			w.failf("agency %d is served: the lottery says %v, the ledger %v", a.id, !c.served[i], c.served[i])
		case int64(len(c.stored[i])) != w.server.committer.Lottery().Stored(a.id):
			w.failf("the lottery has %d bets of agency %d, the ledger %d", w.server.committer.Lottery().Stored(a.id), a.id, len(c.stored[i]))
		}
	}
	if drawn := w.server.committer.Lottery().Drawn(); drawn != c.drawn() || !drawn && (w.promised || w.drawn > 0) {
		w.failf("drawn: the lottery says %v, the ledger %v, announced %d times, told %v", drawn, c.drawn(), w.drawn, w.promised)
	}
}

// checkStored checks one agency's bets in the ledger.
func (w *world) checkStored(a *simAgency, stored []int) {
	if a.old {
		times := make([]int, len(a.bets))
		for _, bet := range stored {
			times[bet]++
		}
		for bet, n := range times {
			if n < a.acked[bet] || n > a.sent[bet] {
				w.failf("bet %d of old agency %d is stored %d times, was acknowledged %d times and sent %d times", bet, a.id, n, a.acked[bet], a.sent[bet])
			}
		}
		return
	}
	for i, bet := range stored {
		if i != bet {
			w.failf("agency %d has bet %d stored where %d belongs: %v", a.id, bet, i, stored)
		}
	}
	if len(stored) < a.promised {
		w.failf("agency %d has %d bets stored, %d were promised", a.id, len(stored), a.promised)
	}
}

// checkDraw checks that a draw that was just announced is the only one, and comes after all
// reports.
func (w *world) checkDraw(l *lottery.Lottery) {
	if w.drawn > 1 {
		w.failf("a second draw")
	}
	for _, a := range w.agencies {
		if !a.reportRead {
			w.failf("a draw before the report of agency %d", a.id)
		}
		if stored := l.Stored(a.id); !a.old && stored != int64(len(a.bets)) {
			w.failf("a draw with %d of %d bets of agency %d", stored, len(a.bets), a.id)
		}
	}
}

// checkServed checks that all agencies that the server takes for served have received their
// winners.
func (w *world) checkServed() {
	for _, a := range w.agencies {
		if w.server.committer.Lottery().Served(a.id) && !a.received {
			w.failf("the server takes agency %d for served, but it has not received its winners", a.id)
		}
	}
}

// checkGoal checks that every agency has received its winners when a server says it has reached its
// goal.
func (w *world) checkGoal() {
	for _, a := range w.agencies {
		if !a.received {
			w.failf("the server ends with its goal, but agency %d has not received its winners", a.id)
		}
	}
}

// checkUnfinished checks that a server that ends without its goal names the right agencies.
func (w *world) checkUnfinished(err error) {
	var unfinished *commit.UnfinishedError
	if !errors.As(err, &unfinished) {
		w.failf("%v names no agencies", err)
	}
	c := w.readLedger()
	for i, a := range w.agencies {
		there := c.reported[i]
		if unfinished.Drawn {
			there = c.served[i]
		}
		if named := slices.Contains(unfinished.Missing, a.id); named == there {
			w.failf("the server ends with %q; agency %d has reported or is served: %v", err, a.id, there)
		}
		if unfinished.Drawn && a.receiptPromised && !there {
			w.failf("the server ends with %q, but has acknowledged the receipt of agency %d", err, a.id)
		}
	}
}

// checkLastStart starts the server once more. No agency comes, and the server must end by itself.
func (w *world) checkLastStart() {
	w.chaosUntil = w.step
	for w.server == nil {
		w.start()
	}
	for last := w.now.Add(timeoutMax); w.server != nil; w.tick() {
		if w.now.After(last) {
			w.failf("no agency comes after the draw, but the server doesn't end")
		}
		w.now = w.now.Add(simStepPeriod)
	}
	c := w.readLedger()
	for i, a := range w.agencies {
		if !a.old && !c.served[i] {
			w.failf("agency %d has ended, but is not served", a.id)
		}
	}
}

// checkEnd checks a run in which every agency has its winners.
func (w *world) checkEnd() {
	w.checkQuiet()
	w.checkLastStart()
	c := w.readLedger()
	if !c.drawn() {
		w.failf("all agencies have winners, but there was no draw")
	}
	for i, a := range w.agencies {
		w.checkStored(a, c.stored[i])
		if !a.old && len(c.stored[i]) != len(a.bets) {
			w.failf("agency %d has %d of %d bets stored", a.id, len(c.stored[i]), len(a.bets))
		}
		if a.old && slices.Contains(a.acked, 0) {
			w.failf("old agency %d has ended without an ACK for each bet: %v", a.id, a.acked)
		}
		want := c.won[i]
		if w.allWinners {
			want = c.all
		}
		if want = bytes.TrimSuffix(want, []byte{'\n'}); !bytes.Equal(a.winners, want) {
			w.failf("agency %d got the winners %q, want %q", a.id, a.winners, want)
		}
	}
	written := w.disk.written
	w.checkReplay(c)
	w.checkDamage(c, written)
}

// checkReplay checks that a replay leads to the same state.
func (w *world) checkReplay(c *contents) {
	if w.server != nil {
		w.serverGone()
	}
	l := lottery.New(w.rules())
	reader := history.Replay(l, history.Settings{Agencies: len(w.agencies), WinningNumber: simWinning})
	led, err := ledger.Open(history.Dir(simDir), ledger.Options{FS: w.disk, SegmentBytes: ledger.SegmentBytesMin}, reader.Visit)
	if err != nil {
		w.failf("the last replay: %v", err)
	}
	if err := led.Close(); err != nil {
		w.failf("the last replay: %v", err)
	}
	if !l.Drawn() || l.Won() != bytes.Count(c.all, []byte{'\n'}) {
		w.failf("the last replay: drawn %v, %d won, want %q", l.Drawn(), l.Won(), c.all)
	}
}

// checkDamage damages the disk in a way that no crash does: it flips a bit, or clears acknowledged
// bytes of a sector that had been synced. The ledger may refuse to open, but must not lose
// anything.
func (w *world) checkDamage(c *contents, written []stretch) {
	if w.chance(50) {
		// Remove the seal, which alone would make the ledger refuse the damage.
		if err := w.disk.Remove(filepath.Join(history.Dir(simDir), simSeal)); err != nil {
			w.failf("the ledger of a drawn lottery: %v", err)
		}
	}
	name, offset, size := w.damage(written)
	got := w.newContents()
	led, err := ledger.Open(history.Dir(simDir), ledger.Options{FS: w.disk, SegmentBytes: ledger.SegmentBytesMin}, w.visit(got))
	switch {
	case errors.Is(err, ledger.ErrCorrupt) || errors.Is(err, ledger.ErrVersion):
		return
	case err != nil:
		w.failf("%d bytes damaged in %s at %d: %v", size, name, offset, err)
	}
	if err := led.Close(); err != nil {
		w.failf("%d bytes damaged in %s at %d: %v", size, name, offset, err)
	}
	for i := range w.agencies {
		if !slices.Equal(got.stored[i], c.stored[i]) || got.reported[i] != c.reported[i] {
			w.failf("%d bytes damaged in %s at %d: the ledger opens with bets %v of agency %d, there were %v", size, name, offset, got.stored[i], i+1, c.stored[i])
		}
	}
}

// damage does the damage, and returns where. It loses sectors only before the last two groups,
// because what is missing of the last group may never have been acknowledged. With
// SERVER_DURABILITY=os it loses none, because then everything counts as one group.
func (w *world) damage(written []stretch) (name string, offset int64, size int) {
	old := withoutLastCommit(withoutLastCommit(written))
	if len(old) > 0 && !w.volatile && w.chance(50) {
		s := pick(w, old)
		offset = s.start + w.rng.Int64N(s.end-s.start)
		end := min(s.end, (offset/ledgertest.SectorBytes+1)*ledgertest.SectorBytes)
		offset = max(s.start, offset/ledgertest.SectorBytes*ledgertest.SectorBytes)
		w.seen[seenLostSector]++
		w.change(s.name, offset, int(end-offset), func(b []byte) { clear(b) })
		return s.name, offset, int(end - offset)
	}
	names, err := w.disk.ReadDir(history.Dir(simDir))
	if err != nil || len(names) == 0 {
		w.failf("the ledger's directory: %v: %v", names, err)
	}
	slices.Sort(names)
	name = filepath.Join(history.Dir(simDir), pick(w, names))
	f, err := w.disk.OpenFile(name, os.O_RDONLY)
	if err != nil {
		w.failf("%s: %v", name, err)
	}
	fileSize, err := f.Size()
	if err != nil || fileSize == 0 {
		w.failf("%s: %d bytes: %v", name, fileSize, err)
	}
	offset = w.rng.Int64N(fileSize)
	w.seen[seenBitRot]++
	w.change(name, offset, 1, func(b []byte) { b[0] ^= 1 << w.rng.IntN(8) })
	return name, offset, 1
}

func withoutLastCommit(written []stretch) []stretch {
	if len(written) == 0 {
		return nil
	}
	last := written[len(written)-1].commit
	return written[:slices.IndexFunc(written, func(s stretch) bool { return s.commit == last })]
}

func (w *world) change(name string, offset int64, size int, change func([]byte)) {
	f, err := w.disk.OpenFile(name, os.O_RDWR)
	if err != nil {
		w.failf("%s: %v", name, err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, offset); err != nil {
		w.failf("%s: %v", name, err)
	}
	change(b)
	if _, err := f.WriteAt(b, offset); err != nil {
		w.failf("%s: %v", name, err)
	}
}
