package lottery_test

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"

	"loteria/codec"
	"loteria/engine/lottery"
)

// model is the lottery written straight from the protocol: it keeps everything that was said, and
// works out every answer from the beginning. It must not share an idea with the package, so that
// the two don't make the same mistake.
type model struct {
	rules     lottery.Rules
	log       []said
	conns     []*conn // in the order in which they were bound to an agency
	questions []*conn // open GET_WINNERS, in the order in which they were asked
	// confirms says of each reported agency whether the connection that reported had said HELLO.
	confirms map[codec.Agency]bool
}

// said is one entry of the log: with bets a batch, with served a receipt, else a report.
type said struct {
	agency codec.Agency
	bets   []bet
	served bool
}

type bet struct {
	line string
	wins bool
}

// conn is a connection. The model uses its session only to name it in effects.
type conn struct {
	session *lottery.Session
	agency  codec.Agency
	closed  bool
	hello   bool
}

// checksum is the checksum of an agency's stored lines.
func (m *model) checksum(id codec.Agency) codec.Checksum {
	lines := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, s := range m.log {
		for _, b := range s.bets {
			if s.agency == id {
				fmt.Fprintln(lines, b.line)
			}
		}
	}
	return codec.Checksum(lines.Sum32())
}

func (m *model) stored(id codec.Agency) int64 {
	var n int64
	for _, s := range m.log {
		if s.agency == id {
			n += int64(len(s.bets))
		}
	}
	return n
}

func (m *model) reported(id codec.Agency) bool {
	return slices.ContainsFunc(m.log, func(s said) bool {
		return s.agency == id && len(s.bets) == 0 && !s.served
	})
}

func (m *model) served(id codec.Agency) bool {
	return slices.ContainsFunc(m.log, func(s said) bool { return s.agency == id && s.served })
}

func (m *model) expected(id codec.Agency) bool {
	return id >= 1 && int64(id) <= int64(m.rules.Agencies)
}

func (m *model) drawn() bool {
	for id := 1; id <= m.rules.Agencies; id++ {
		if !m.reported(codec.Agency(id)) {
			return false
		}
	}
	return true
}

// won lists the winning lines of the agencies that of accepts, in ledger order.
func (m *model) won(of func(codec.Agency) bool) []string {
	var lines []string
	for _, s := range m.log {
		for _, b := range s.bets {
			if b.wins && of(s.agency) {
				lines = append(lines, b.line)
			}
		}
	}
	return lines
}

func everyone(codec.Agency) bool { return true }

func (m *model) answer(c *conn) lottery.Effect {
	of := func(id codec.Agency) bool { return id == c.agency }
	if m.rules.AllWinners {
		of = everyone
	}
	return winners(c.session, c.agency, m.won(of)...)
}

// open lists the open connections that are bound to any agency, the last bound first.
func (m *model) open() []*conn {
	var open []*conn
	for _, c := range slices.Backward(m.conns) {
		if !c.closed {
			open = append(open, c)
		}
	}
	return open
}

// names binds the connection to the agency, if it is not bound yet.
func (m *model) names(c *conn, id codec.Agency) {
	if c.agency == 0 {
		c.agency = id
		m.conns = append(m.conns, c)
	}
}

// refuses says whether a message that names agency id is rejected on this connection.
func (m *model) refuses(c *conn, id codec.Agency) bool {
	return !m.expected(id) || c.agency != 0 && c.agency != id
}

func (m *model) hello(c *conn, id codec.Agency) []lottery.Effect {
	if c.closed {
		return nil
	}
	if m.refuses(c, id) {
		return []lottery.Effect{reject(c.session, id, codec.CodeInvalidAgency)}
	}
	var effects []lottery.Effect
	for _, older := range m.open() {
		if older.agency == id && older != c {
			older.closed = true
			effects = append(effects, reject(older.session, id, codec.CodeAgencyTakenOver))
		}
	}
	m.names(c, id)
	c.hello = true
	return append(effects, welcome(c.session, id, m.stored(id)))
}

func (m *model) received(c *conn, id codec.Agency) (lottery.Entry, []lottery.Effect) {
	switch {
	case c.closed:
		return lottery.NoEntry, nil
	case m.refuses(c, id):
		return lottery.NoEntry, []lottery.Effect{reject(c.session, id, codec.CodeInvalidAgency)}
	case !c.hello:
		return lottery.NoEntry, []lottery.Effect{reject(c.session, id, codec.CodeInvalidBatch)}
	}
	switch {
	case !m.drawn():
		return lottery.NoEntry, []lottery.Effect{reject(c.session, id, codec.CodeLotteryHasntEnded)}
	case m.served(id):
		return lottery.NoEntry, []lottery.Effect{receipt(c.session, id)}
	}
	m.log = append(m.log, said{agency: id, served: true})
	return lottery.ServedEntry, []lottery.Effect{receipt(c.session, id)}
}

func (m *model) taken(c *conn) lottery.Entry {
	if c.closed || c.agency == 0 || !m.drawn() ||
		m.served(c.agency) || m.confirms[c.agency] || c.hello {
		return lottery.NoEntry
	}
	m.log = append(m.log, said{agency: c.agency, served: true})
	return lottery.ServedEntry
}

func (m *model) bets(c *conn, id codec.Agency, batch []bet) (lottery.Entry, []lottery.Effect) {
	switch {
	case c.closed:
		return lottery.NoEntry, nil
	case m.refuses(c, id):
		return lottery.NoEntry, []lottery.Effect{reject(c.session, id, codec.CodeInvalidAgency)}
	case m.reported(id) || m.drawn():
		return lottery.NoEntry, []lottery.Effect{reject(c.session, id, codec.CodeBetsClosed)}
	}
	m.names(c, id)
	m.log = append(m.log, said{agency: id, bets: batch})
	return lottery.BetsEntry, []lottery.Effect{ack(c.session, id, len(batch))}
}

func (m *model) getWinners(c *conn, id codec.Agency) (lottery.Entry, []lottery.Effect) {
	if c.closed {
		return lottery.NoEntry, nil
	}
	if m.refuses(c, id) {
		return lottery.NoEntry, []lottery.Effect{reject(c.session, id, codec.CodeInvalidAgency)}
	}
	m.names(c, id)
	if m.drawn() {
		return lottery.NoEntry, []lottery.Effect{m.answer(c)}
	}
	entry := lottery.NoEntry
	if !m.reported(id) {
		m.confirms[id] = c.hello
		m.log = append(m.log, said{agency: id})
		entry = lottery.ReportedEntry
	}
	if m.rules.Poll && !m.drawn() {
		return entry, []lottery.Effect{reject(c.session, id, codec.CodeLotteryHasntEnded)}
	}
	m.questions = append(m.questions, c)
	if !m.drawn() {
		return entry, nil
	}
	effects := []lottery.Effect{draw(len(m.won(everyone)))}
	for _, c := range m.takeQuestions() {
		effects = append(effects, m.answer(c))
	}
	return entry, effects
}

// takeQuestions empties the list of open questions. It returns their connections in the order in
// which they are answered: by agency, and within an agency the last bound first.
func (m *model) takeQuestions() []*conn {
	asked := slices.DeleteFunc(m.questions, func(c *conn) bool { return c.closed })
	m.questions = nil
	slices.SortStableFunc(asked, func(a, b *conn) int {
		if a.agency != b.agency {
			return cmp.Compare(a.agency, b.agency)
		}
		return cmp.Compare(slices.Index(m.conns, b), slices.Index(m.conns, a))
	})
	return asked
}

func (m *model) dismiss() []lottery.Effect {
	var effects []lottery.Effect
	for _, c := range m.takeQuestions() {
		effects = append(effects, reject(c.session, c.agency, codec.CodeLotteryHasntEnded))
	}
	return effects
}

// restart forgets all connections; only the log stays.
func (m *model) restart() { m.conns, m.questions = nil, nil }
