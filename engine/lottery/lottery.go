package lottery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"loteria/codec"
)

// AgenciesMax is the largest number of expected agencies.
const AgenciesMax = 100_000

// ErrReplay says that this lottery can't have written an entry: the ledger belongs to other
// settings, or something else wrote into it.
var ErrReplay = errors.New("entry does not fit the lottery")

// Rules are the settings of one draw.
type Rules struct {
	// Agencies is the number of expected agencies, 1 to AgenciesMax. Their ids are 1 to Agencies.
	Agencies int
	// Poll answers a GET_WINNERS before the draw at once with CodeLotteryHasntEnded, instead of
	// holding it until the draw.
	Poll bool
	// AllWinners sends every agency all winners, in ledger order, instead of its own.
	AllWinners bool
}

// RequestKind tells requests apart.
type RequestKind uint8

// The kinds of requests.
const (
	// Hello binds the session to its agency and fences off the agency's other sessions.
	Hello RequestKind = iota + 1
	// Bets is a valid batch.
	Bets
	// GetWinners ends the agency's bets and asks for its winners.
	GetWinners
	// Received says that the agency has its winners. Agencies that say Hello confirm them with it.
	Received
	// Taken says that the session's peer has taken the winners it was sent, as far as TCP can tell.
	// It serves an agency that never says Hello.
	Taken
	// Leave says that the session's connection is gone.
	Leave
)

// Request is one event of a session. The caller has checked that the message is well formed; the
// lottery decides whether it is allowed.
type Request struct {
	Kind    RequestKind
	Session *Session
	Agency  codec.Agency  // not of Leave and Taken
	Count   int           // of Bets: the number of bets
	Lines   codec.Stretch // of Bets: the length and checksum of all lines
	// Winners are the winning lines of Bets, each followed by '\n'. Apply copies them if it takes
	// the bets.
	Winners []byte
}

// Entry is what a request adds to the ledger.
type Entry uint8

// The entries.
const (
	NoEntry Entry = iota
	// BetsEntry is the request's batch.
	BetsEntry
	// ReportedEntry says that the request's agency has no more bets.
	ReportedEntry
	// ServedEntry says that the request's agency has its winners. It comes after the draw.
	ServedEntry
)

// EffectKind tells effects apart.
type EffectKind uint8

// The kinds of effects.
const (
	// Ack: the batch of Count bets is stored.
	Ack EffectKind = iota + 1
	// Welcome: the session speaks for its agency, which has Stored bets with that Checksum.
	Welcome
	// Winners: the winners in Payload are Count lines.
	Winners
	// Reject: the request is rejected with Code. CodeAgencyTakenOver rejects the whole session.
	Reject
	// Draw: the draw took place, and Count bets won in all. It has no session and happens once.
	Draw
	// Receipt: the lottery has noted that the agency has its winners.
	Receipt
)

// Effect is what may be released once the entry of its request is durable.
type Effect struct {
	Session *Session // the session to tell; nil for Draw
	// Payload is shared between effects and must not be changed.
	Payload []byte
	Stored  int64
	Count   int
	Agency  codec.Agency
	// Times is how many requests of the session this effect answers; 0 means 1. Only Winners and a
	// Reject with CodeLotteryHasntEnded set it: a session may have a whole window of GET_WINNERS
	// waiting, and one effect answers them all.
	Times    int32
	Checksum codec.Checksum // of Welcome
	Kind     EffectKind
	Code     codec.Code // of Reject
}

// Lottery is the state machine. Make one with New.
type Lottery struct {
	rules    Rules
	agencies []agency // agency id at id-1
	reported int      // agencies that have reported; the draw is when it reaches len(agencies)
	served   int      // agencies that have their winners
	bets     int64
	won      int    // winning bets of all agencies
	all      []byte // with AllWinners: the winning lines of all agencies; agency.winners is unused
}

// agency is what the lottery knows of one agency.
type agency struct {
	stored   int64
	checksum codec.Checksum // of the stored bets
	reported bool
	served   bool
	// confirms: the session that reported had said Hello, so only a Received serves the agency. A
	// Taken of another session doesn't.
	confirms bool
	won      int
	fence    uint64   // the Number of the last session that said Hello
	winners  []byte   // lines, each followed by '\n', in ledger order; frozen by the draw
	sessions *Session // bound and still open, the last bound first
}

// New makes a lottery without entries. It panics if rules.Agencies is out of range: the
// configuration has to check it.
func New(rules Rules) *Lottery {
	if rules.Agencies < 1 || rules.Agencies > AgenciesMax {
		panic(fmt.Sprintf("lottery: %d agencies, want 1 to %d", rules.Agencies, AgenciesMax))
	}
	return &Lottery{rules: rules, agencies: make([]agency, rules.Agencies)}
}

// Replay applies an entry that was read from the ledger. For a batch, count is the number of bets,
// lines describes all lines, and winners are the winning lines, each followed by '\n', which Replay
// copies. For a report, count is 1 if the session that reported Confirms, else 0. Errors wrap
// ErrReplay and leave the lottery unchanged.
func (l *Lottery) Replay(
	entry Entry, id codec.Agency, count int, lines codec.Stretch, winners []byte,
) error {
	a := l.agency(id)
	switch {
	case a == nil:
		return fmt.Errorf("%w: agency %d of %d", ErrReplay, id, len(l.agencies))
	case entry == ServedEntry && !l.Drawn():
		return fmt.Errorf("%w: agency %d has winners before the draw", ErrReplay, id)
	case entry == ServedEntry && a.served:
		return fmt.Errorf("%w: agency %d had its winners before", ErrReplay, id)
	case entry == ServedEntry:
		l.serve(a)
	case a.reported:
		return fmt.Errorf("%w: agency %d had reported before", ErrReplay, id)
	case entry == BetsEntry && count > 0:
		l.store(a, count, lines, winners)
	case entry == ReportedEntry && 0 <= count && count <= 1:
		l.report(a, count == 1)
	default:
		return fmt.Errorf("%w: entry %d of %d bets", ErrReplay, entry, count)
	}
	return nil
}

// Apply decides a request. It returns the entry to append to the ledger, and effects with those of
// this request appended, in the order in which they must leave.
func (l *Lottery) Apply(r Request, effects []Effect) (Entry, []Effect) {
	s := r.Session
	switch r.Kind {
	case Leave:
		l.unbind(s)
		return NoEntry, effects
	case Taken:
		return l.taken(s), effects
	}
	if s.gone {
		return NoEntry, effects // the peer has been told, and the connection is closing
	}
	a := l.agency(r.Agency)
	if a == nil || s.agency != 0 && s.agency != r.Agency {
		return NoEntry, append(effects, s.reject(r.Agency, codec.CodeInvalidAgency))
	}
	// A dead connection's messages can arrive after those of its agency's next connection, because
	// different event loops may read the two. They must not take the agency over, and their bets
	// must not be stored after Welcome has counted. After the draw any connection may ask for the
	// winners.
	if s.agency == 0 && s.Number < a.fence && !(r.Kind == GetWinners && l.Drawn()) {
		l.unbind(s)
		return NoEntry, append(effects, s.reject(r.Agency, codec.CodeAgencyTakenOver))
	}
	switch r.Kind {
	case Hello:
		return NoEntry, l.hello(s, r.Agency, a, effects)
	case Bets:
		if a.reported {
			return NoEntry, append(effects, s.reject(r.Agency, codec.CodeBetsClosed))
		}
		l.bind(s, r.Agency, a)
		l.store(a, r.Count, r.Lines, r.Winners)
		return BetsEntry, append(effects, Effect{
			Kind: Ack, Session: s, Agency: r.Agency, Count: r.Count,
		})
	case GetWinners:
		l.bind(s, r.Agency, a)
		return l.getWinners(s, a, effects)
	case Received:
		if !s.hello { // it said none, or its Hello was refused
			return NoEntry, append(effects, s.reject(r.Agency, codec.CodeInvalidBatch))
		}
		return l.receive(s, a, effects)
	default:
		panic(fmt.Sprintf("lottery: request of kind %d", r.Kind))
	}
}

// hello makes s the only session of its agency. The other sessions are told so; what they still
// send is dropped and changes nothing.
func (l *Lottery) hello(s *Session, id codec.Agency, a *agency, effects []Effect) []Effect {
	for older := a.sessions; older != nil; {
		next := older.next
		if older != s {
			l.unbind(older)
			effects = append(effects, older.reject(id, codec.CodeAgencyTakenOver))
		}
		older = next
	}
	l.bind(s, id, a)
	a.fence = s.Number
	s.hello = true
	return append(effects, Effect{
		Kind: Welcome, Session: s, Agency: id, Stored: a.stored, Checksum: a.checksum,
	})
}

// receive notes that the agency has its winners. Only the first time makes an entry.
func (l *Lottery) receive(s *Session, a *agency, effects []Effect) (Entry, []Effect) {
	if !l.Drawn() {
		return NoEntry, append(effects, s.reject(s.agency, codec.CodeLotteryHasntEnded))
	}
	entry := NoEntry
	if !a.served {
		l.serve(a)
		entry = ServedEntry
	}
	return entry, append(effects, Effect{Kind: Receipt, Session: s, Agency: s.agency})
}

// taken notes that the agency has its winners, unless the agency has to confirm them itself.
func (l *Lottery) taken(s *Session) Entry {
	if s.gone || s.agency == 0 || !l.Drawn() {
		return NoEntry
	}
	a := l.agency(s.agency)
	if a.served || a.confirms || s.hello {
		return NoEntry
	}
	l.serve(a)
	return ServedEntry
}

func (l *Lottery) getWinners(s *Session, a *agency, effects []Effect) (Entry, []Effect) {
	if l.Drawn() {
		return NoEntry, append(effects, l.winners(s, a))
	}
	entry := NoEntry
	if !a.reported {
		l.report(a, s.hello)
		entry = ReportedEntry
	}
	switch {
	case l.Drawn():
		s.waiting++
		return entry, l.draw(effects)
	case l.rules.Poll:
		return entry, append(effects, s.reject(s.agency, codec.CodeLotteryHasntEnded))
	default:
		s.waiting++
		return entry, effects
	}
}

// draw announces the draw and answers every session that waits for it.
func (l *Lottery) draw(effects []Effect) []Effect {
	waiting := 0
	for i := range l.agencies {
		for s := l.agencies[i].sessions; s != nil; s = s.next {
			if s.waiting > 0 {
				waiting++
			}
		}
	}
	effects = slices.Grow(effects, 1+waiting) // step by step it would take five times the memory
	effects = append(effects, Effect{Kind: Draw, Count: l.won})
	for i := range l.agencies {
		a := &l.agencies[i]
		for s := a.sessions; s != nil; s = s.next {
			if s.waiting > 0 {
				e := l.winners(s, a)
				e.Times, s.waiting = s.waiting, 0
				effects = append(effects, e)
			}
		}
	}
	return effects
}

// Dismiss answers every session that waits for the draw with CodeLotteryHasntEnded. A server that
// stops before the draw calls it. It appends to effects.
func (l *Lottery) Dismiss(effects []Effect) []Effect {
	for i := range l.agencies {
		for s := l.agencies[i].sessions; s != nil; s = s.next {
			if s.waiting > 0 {
				e := s.reject(s.agency, codec.CodeLotteryHasntEnded)
				e.Times, s.waiting = s.waiting, 0
				effects = append(effects, e)
			}
		}
	}
	return effects
}

func (l *Lottery) winners(s *Session, a *agency) Effect {
	lines, count := a.winners, a.won
	if l.rules.AllWinners {
		lines, count = l.all, l.won
	}
	if len(lines) > 0 {
		lines = lines[: len(lines)-1 : len(lines)-1] // on the wire the last line has no '\n'
	}
	return Effect{Kind: Winners, Session: s, Agency: s.agency, Count: count, Payload: lines}
}

func (l *Lottery) store(a *agency, count int, lines codec.Stretch, winners []byte) {
	a.stored += int64(count)
	a.checksum = a.checksum.Join(lines)
	l.bets += int64(count)
	if len(winners) == 0 {
		return
	}
	n := bytes.Count(winners, []byte{'\n'})
	a.won += n
	l.won += n
	if l.rules.AllWinners {
		l.all = append(l.all, winners...)
	} else {
		a.winners = append(a.winners, winners...)
	}
}

func (l *Lottery) report(a *agency, confirms bool) {
	a.reported, a.confirms = true, confirms
	l.reported++
}

func (l *Lottery) serve(a *agency) {
	a.served = true
	l.served++
}

func (l *Lottery) agency(id codec.Agency) *agency {
	if id < 1 || id > codec.Agency(len(l.agencies)) {
		return nil
	}
	return &l.agencies[id-1]
}

// Drawn reports whether the draw has taken place.
func (l *Lottery) Drawn() bool { return l.reported == len(l.agencies) }

// Agencies is how many agencies are expected.
func (l *Lottery) Agencies() int { return len(l.agencies) }

// Bets is how many bets are stored.
func (l *Lottery) Bets() int64 { return l.bets }

// Won is how many of the stored bets have the winning number.
func (l *Lottery) Won() int { return l.won }

// Stored is how many bets of an agency are stored; 0 for an agency that is not expected.
func (l *Lottery) Stored(id codec.Agency) int64 {
	if a := l.agency(id); a != nil {
		return a.stored
	}
	return 0
}

// Standing is how far an agency is.
type Standing struct {
	Stored   int64 // bets
	Won      int   // of them
	Reported bool
	Served   bool
}

// Standing is how far an agency is. It is zero for one that is not expected.
func (l *Lottery) Standing(id codec.Agency) Standing {
	if a := l.agency(id); a != nil {
		return Standing{a.stored, a.won, a.reported, a.served}
	}
	return Standing{}
}

// Reported reports whether an agency has said that it has no more bets.
func (l *Lottery) Reported(id codec.Agency) bool {
	a := l.agency(id)
	return a != nil && a.reported
}

// Missing is how many agencies have not reported yet.
func (l *Lottery) Missing() int { return len(l.agencies) - l.reported }

// Served reports whether an agency is known to have its winners.
func (l *Lottery) Served(id codec.Agency) bool {
	a := l.agency(id)
	return a != nil && a.served
}

// Unserved is how many agencies are not known to have their winners.
func (l *Lottery) Unserved() int { return len(l.agencies) - l.served }

// Checksum is the checksum of an agency's stored bets; 0, the checksum of no bets, for an agency
// that is not expected.
func (l *Lottery) Checksum(id codec.Agency) codec.Checksum {
	if a := l.agency(id); a != nil {
		return a.checksum
	}
	return 0
}

// OpenSessions counts the sessions that are bound to an agency and still open. It looks at every
// agency, so it is for tests that look for leaks.
func (l *Lottery) OpenSessions() int {
	open := 0
	for i := range l.agencies {
		for s := l.agencies[i].sessions; s != nil; s = s.next {
			open++
		}
	}
	return open
}
