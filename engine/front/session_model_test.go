package front

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

// model is the server written straight from codec/PROTOCOL.md: it reads a byte at a time, keeps
// everything that was ever said, and works out every answer from the beginning. It knows nothing of
// buffers, sockets or the disk. With the engine it shares only the spelling of answers and
// codec.ParseBet, which reads one bet.
type model struct {
	cfg        modelConfig
	today      codec.Date
	ticksQuiet int // how many ticks a peer may keep the server waiting
	// partialsMax is how many half frames there may be; 0 is any number. Up to partialsTop may be
	// left until the loop of the oldest has ended it.
	partialsMax, partialsTop int

	log   []modelEntry   // what is stored, in order
	conns []*modelConn   // open ones, the oldest first
	read  [][]modelEvent // by loop: what was read and is not decided yet
	// served are the agencies that are known to have their winners. A restart doesn't change that.
	served map[codec.Agency]bool
	// done are those of them that have come for their winners since the start.
	done map[codec.Agency]bool
	// confirms are the agencies that reported on a connection that had said HELLO. A restart
	// doesn't change that.
	confirms map[codec.Agency]bool
	// By loop: what it has to do at its next turn.
	ticking, shedding []bool

	begun  int                  // half frames since the beginning
	opened int                  // connections since the start
	spoken map[codec.Agency]int // the number of the last connection that said HELLO
}

// modelConfig is the configuration of the server that the model models.
type modelConfig struct {
	Config
	poll, allWinners bool
	loops            int
}

// modelEntry is a batch or, without lines, a report.
type modelEntry struct {
	agency  codec.Agency
	payload string
}

// modelConn is a connection: what its peer has said and has to be told.
type modelConn struct {
	loop   int
	in     string // the half frame
	began  int    // the half frame's number, in the order in which they began
	quiet  int    // ticks that the server has waited for a first frame or for the rest of one
	frames int    // frames that want an answer
	heard  int    // answers that have come to the peer
	owed   string // all answers that the peer has to get, in order

	spoke bool // a whole frame has come
	hello bool // it has said HELLO
	deaf  bool // nothing it says counts any more
	last  bool // owed ends with an error that closes
	over  bool // the peer has got that error
	told  bool // the peer has got winners, and has not shown since that it has read them

	agency    codec.Agency // 0: not known
	number    int          // in the order in which connections were opened
	welcome   bool         // its HELLO was accepted
	gone      bool         // left, or taken over: its requests are dropped
	half      bool         // it will say nothing more
	questions int          // GET_WINNERS that wait for the draw
	counted   bool         // the server waits for it, unless its agency is unsure
}

// modelEvent is one thing that happened on a connection.
type modelEvent struct {
	conn    *modelConn
	kind    lottery.RequestKind
	agency  codec.Agency
	payload string
	code    codec.Code // of commit.Answer
	detail  string
}

func newModel(cfg modelConfig, today codec.Date) *model {
	m := &model{cfg: cfg, today: today, served: map[codec.Agency]bool{}, confirms: map[codec.Agency]bool{}}
	m.restart()
	return m
}

// restart forgets everything except what is stored.
func (m *model) restart() {
	m.conns, m.read = nil, make([][]modelEvent, m.cfg.loops)
	m.ticking, m.shedding = make([]bool, m.cfg.loops), make([]bool, m.cfg.loops)
	m.opened, m.spoken, m.done = 0, map[codec.Agency]int{}, map[codec.Agency]bool{}
}

func (m *model) connect(loop int) *modelConn {
	m.opened++
	c := &modelConn{loop: loop, number: m.opened}
	m.conns = append(m.conns, c)
	return c
}

// hear takes the bytes that the server reads from a connection.
func (m *model) hear(c *modelConn, b []byte) {
	if c.deaf {
		return // nothing is read, so the loop doesn't shed either
	}
	for i := 0; i < len(b) && !c.deaf; i++ {
		if c.in == "" {
			c.quiet = 0
			m.begun++
			c.began = m.begun
		}
		c.in += string(b[i : i+1])
		header, payload, _ := strings.Cut(c.in, "\n")
		length, err := strconv.Atoi(header)
		switch {
		case header == "" || strings.Trim(header, "0123456789") != "" || header[0] == '0' && header != "0":
			m.refuse(c, codec.CodeInvalidFrame)
		case err != nil || length > m.cfg.FrameBytesMax:
			m.refuse(c, codec.CodeFrameTooLarge)
		case len(c.in) == len(header)+1+length && strings.Contains(c.in, "\n"):
			c.in = ""
			m.frame(c, payload)
		}
	}
	m.shed(c.loop)
}

// halves are the connections with a half frame, of one loop or, with -1, of all. The oldest half
// frame comes first.
func (m *model) halves(loop int) []*modelConn {
	var halves []*modelConn
	for _, c := range m.conns {
		if c.in != "" && !c.deaf && (loop == c.loop || loop < 0) {
			halves = append(halves, c)
		}
	}
	slices.SortFunc(halves, func(a, b *modelConn) int { return a.began - b.began })
	return halves
}

// shed is what a loop does about too many half frames: it ends the oldest of all loops. If that is
// another loop's, it asks that loop, but above partialsTop it ends its own oldest.
func (m *model) shed(loop int) {
	for m.partialsMax > 0 {
		all, own := m.halves(-1), m.halves(loop)
		switch {
		case len(all) <= m.partialsMax:
			return
		case len(own) == 0 || own[0] != all[0] && len(all) <= m.partialsTop:
			m.shedding[all[0].loop] = true
			return
		}
		m.refuse(own[0], codec.CodeTimeout)
	}
}

// run is a loop's turn, except that it gives no answers.
func (m *model) run(loop int) {
	if m.ticking[loop] {
		m.ticking[loop] = false
		m.tick(loop)
	}
	if m.shedding[loop] {
		m.shedding[loop] = false
		m.shed(loop)
	}
}

// ticks makes each loop tick at its next turn.
func (m *model) ticks() {
	for loop := range m.ticking {
		m.ticking[loop] = true
	}
}

func (m *model) frame(c *modelConn, payload string) {
	c.spoke = true
	m.taken(c)
	if c.frames-c.heard == m.cfg.Window {
		m.refuse(c, codec.CodeWindowExceeded)
		return
	}
	c.frames++
	e := m.understand(payload)
	if e.kind == lottery.Received && !c.hello {
		e = modelEvent{kind: commit.Answer, code: codec.CodeInvalidBatch}
	}
	c.hello = c.hello || e.kind == lottery.Hello
	if !c.hello {
		e.detail = ""
	}
	m.happens(c, e)
}

// taken notes that the peer has read the winners that it was told, if it was told any: it has asked
// something else, or closed its side.
func (m *model) taken(c *modelConn) {
	if c.told {
		c.told = false
		m.happens(c, modelEvent{kind: lottery.Taken})
	}
}

// refuse ends a connection with an error.
func (m *model) refuse(c *modelConn, code codec.Code) {
	c.frames++
	c.deaf = true
	m.happens(c, modelEvent{kind: commit.Answer, code: code})
}

func (m *model) happens(c *modelConn, e modelEvent) {
	e.conn = c
	m.read[c.loop] = append(m.read[c.loop], e)
}

// understand reads a payload.
func (m *model) understand(payload string) modelEvent {
	firstLine, _, _ := strings.Cut(payload, "\n")
	switch id, isHello := strings.CutPrefix(payload, "HELLO|"); {
	case strings.HasPrefix(payload, "GET_WINNERS"):
		id, ok := strings.CutPrefix(payload, "GET_WINNERS|")
		if agency := modelAgency(id); ok && agency >= 0 {
			return modelEvent{kind: lottery.GetWinners, agency: codec.Agency(agency)}
		}
		return modelEvent{kind: commit.Answer, code: codec.CodeInvalidGetWinners}
	case strings.HasPrefix(payload, "RECEIVED|") && modelAgency(strings.TrimPrefix(payload, "RECEIVED|")) >= 0:
		return modelEvent{kind: lottery.Received, agency: codec.Agency(modelAgency(strings.TrimPrefix(payload, "RECEIVED|")))}
	case isHello && strings.Count(firstLine, "|") < 5:
		if agency := modelAgency(id); agency >= 0 {
			return modelEvent{kind: lottery.Hello, agency: codec.Agency(agency)}
		}
		return modelEvent{kind: commit.Answer, code: codec.CodeInvalidHello}
	case strings.Trim(payload, "\n") == "":
		return modelEvent{kind: commit.Answer, code: codec.CodeEmptyBatch}
	}
	var agencies []codec.Agency
	for i, line := range modelLines(payload) {
		bet, err := codec.ParseBet([]byte(line), m.today)
		if err != nil {
			reason := strings.TrimPrefix(err.Error(), codec.ErrBet.Error()+": ")
			return modelEvent{kind: commit.Answer, code: codec.CodeInvalidBatch, detail: fmt.Sprintf("%d|%s", i+1, reason)}
		}
		agencies = append(agencies, bet.Agency)
	}
	if len(slices.Compact(agencies)) > 1 {
		return modelEvent{kind: commit.Answer, code: codec.CodeInvalidAgency}
	}
	return modelEvent{kind: lottery.Bets, agency: agencies[0], payload: payload}
}

// modelAgency reads an id; -1 is none.
func modelAgency(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || strconv.Itoa(n) != s || n > 999_999_999 {
		return -1
	}
	return max(n, -1)
}

// tick refuses the peers of a loop that have kept the server waiting for too long.
func (m *model) tick(loop int) {
	for _, c := range m.conns {
		if c.loop != loop || c.deaf || c.spoke && c.in == "" {
			continue
		}
		if c.quiet++; c.quiet > m.ticksQuiet {
			m.refuse(c, codec.CodeTimeout)
		}
	}
}

// halfClose notes that a peer has shut its side. It reports whether the peer is still owed
// something. If not, it is gone.
func (m *model) halfClose(c *modelConn) (owed bool) {
	m.taken(c)
	if c.over || c.frames <= c.heard {
		m.leave(c)
		return false
	}
	c.deaf, c.in = true, ""
	m.happens(c, modelEvent{kind: commit.HalfClose})
	return true
}

// leave notes that a connection is gone.
func (m *model) leave(c *modelConn) {
	c.deaf = true
	m.happens(c, modelEvent{kind: lottery.Leave})
}

// commit decides everything that was read, in order: first what the first loop has read, then what
// the second has.
func (m *model) commit() {
	for loop, events := range m.read {
		m.read[loop] = nil
		for _, e := range events {
			m.decide(e)
		}
	}
}

func (m *model) decide(e modelEvent) {
	c, id := e.conn, e.agency
	switch {
	case e.kind == lottery.Leave:
		c.gone, c.half, c.questions = true, true, 0
		m.conns = slices.DeleteFunc(m.conns, func(other *modelConn) bool { return other == c })
		return
	case e.kind == commit.HalfClose:
		c.half = true
		return
	case c.gone:
		return
	case e.kind == lottery.Taken:
		if c.agency != 0 && !m.confirms[c.agency] && !c.welcome {
			m.served[c.agency] = true
		}
		m.done[c.agency] = m.done[c.agency] || m.served[c.agency]
		return
	case e.kind == commit.Answer:
		m.tellError(c, e.code, e.detail)
		return
	case id < 1 || int(id) > m.cfg.Agencies || c.agency != 0 && c.agency != id:
		m.tellError(c, codec.CodeInvalidAgency, "")
		return
	}
	if c.agency == 0 && c.number < m.spoken[id] && !(e.kind == lottery.GetWinners && m.drawn()) {
		c.gone = true
		m.tellError(c, codec.CodeAgencyTakenOver, "")
		return
	}
	defer func() { c.counted = c.counted || c.agency != 0 && !m.done[c.agency] }()
	switch e.kind {
	case lottery.Hello:
		for _, older := range m.conns {
			if older != c && older.agency == id && !older.gone {
				older.gone, older.questions = true, 0
				m.tellError(older, codec.CodeAgencyTakenOver, "")
			}
		}
		c.agency, m.spoken[id] = id, c.number
		c.welcome = true
		m.tell(c, fmt.Sprintf("WELCOME|%d|%d|%d|%08x", m.stored(id), m.cfg.Window, m.cfg.FrameBytesMax, m.checksum(id)))
	case lottery.Received:
		if !c.welcome {
			m.tellError(c, codec.CodeInvalidBatch, "")
			return
		}
		if !m.drawn() {
			m.tellError(c, codec.CodeLotteryHasntEnded, "")
			return
		}
		m.served[id], m.done[id] = true, true
		m.tell(c, "ACK")
	case lottery.Bets:
		if m.reported(id) {
			m.tellError(c, codec.CodeBetsClosed, "")
			return
		}
		c.agency = id
		m.log = append(m.log, modelEntry{id, e.payload})
		m.tell(c, "ACK")
	case lottery.GetWinners:
		c.agency = id
		before := m.drawn()
		if !m.reported(id) {
			m.confirms[id] = c.welcome
			m.log = append(m.log, modelEntry{agency: id})
		}
		switch {
		case before:
			m.tellWinners(c)
		case m.drawn():
			c.questions++
			for _, c := range m.conns {
				for ; c.questions > 0; c.questions-- {
					m.tellWinners(c)
				}
			}
		case m.cfg.poll:
			m.tellError(c, codec.CodeLotteryHasntEnded, "")
		default:
			c.questions++
		}
	}
}

// dismiss tells the connections that wait for the draw that there is none yet.
func (m *model) dismiss() {
	for _, c := range m.conns {
		for ; c.questions > 0; c.questions-- {
			m.tellError(c, codec.CodeLotteryHasntEnded, "")
		}
	}
}

func (m *model) tell(c *modelConn, payload string) {
	if !c.last {
		c.owed += fmt.Sprintf("%d\n%s", len(payload), payload)
	}
}

func (m *model) tellError(c *modelConn, code codec.Code, detail string) {
	payload := code.String()
	if detail != "" {
		payload += "|" + detail
	}
	m.tell(c, payload)
	c.last = c.last || code.Closes()
}

func (m *model) tellWinners(c *modelConn) { m.tell(c, strings.Join(m.winners(c.agency), "\n")) }

// winners are the winning lines that an agency gets, in the ledger's order.
func (m *model) winners(id codec.Agency) (lines []string) {
	for _, e := range m.log {
		if e.agency != id && !m.cfg.allWinners {
			continue
		}
		for _, line := range e.lines() {
			if n, err := strconv.Atoi(strings.Split(line, "|")[4]); err == nil && n == int(m.cfg.WinningNumber) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// peerHears notes that a connection's peer has got one more answer.
func (m *model) peerHears(c *modelConn, payload []byte) error {
	c.heard++
	reply, err := codec.ParseReply(payload)
	switch {
	case err != nil:
		return err
	case c.over:
		return errors.New("an answer behind the last one")
	case reply.Kind == codec.ReplyWinners:
		c.told = true
	case reply.Kind == codec.ReplyError && reply.Code.Closes():
		c.over, c.deaf = true, true
	}
	return nil
}

func (m *model) stored(id codec.Agency) (bets int64) {
	for _, e := range m.log {
		if e.agency == id {
			bets += int64(len(e.lines()))
		}
	}
	return bets
}

// checksum is that of an agency's stored lines.
func (m *model) checksum(id codec.Agency) uint32 {
	lines := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, e := range m.log {
		for _, line := range e.lines() {
			if e.agency == id {
				fmt.Fprintln(lines, line)
			}
		}
	}
	return lines.Sum32()
}

func (e modelEntry) lines() []string { return modelLines(e.payload) }

func modelLines(payload string) []string {
	if payload == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(payload, "\n"), "\n")
}

func (m *model) reported(id codec.Agency) bool {
	return slices.Contains(m.log, modelEntry{agency: id})
}

func (m *model) drawn() bool {
	for id := 1; id <= m.cfg.Agencies; id++ {
		if !m.reported(codec.Agency(id)) {
			return false
		}
	}
	return true
}

// agencySockets counts the connections that keep the server from ending. Those of an unsure agency
// may count or not.
func (m *model) agencySockets(unsure map[codec.Agency]bool) (least, most int) {
	for _, c := range m.conns {
		switch {
		case c.agency == 0 || c.half && c.welcome:
		case unsure[c.agency]:
			most++
		case c.counted:
			least++
			most++
		}
	}
	return least, most
}

// speakers counts the connections that speak for an agency.
func (m *model) speakers() (open int) {
	for _, c := range m.conns {
		if c.agency != 0 && !c.gone {
			open++
		}
	}
	return open
}
