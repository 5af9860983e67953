package lottery

import (
	"errors"
	"fmt"
	"slices"

	"loteria/codec"
)

// AgenciesMax is the largest number of expected agencies.
const AgenciesMax = 100_000

// ErrReplay says that an entry can't have been written by this lottery: the
// ledger belongs to other settings, or something else wrote into it.
var ErrReplay = errors.New("entry does not fit the lottery")

// Rules are the settings of one draw.
type Rules struct {
	// Agencies is how many agencies are expected: ids 1 to Agencies, at most
	// AgenciesMax.
	Agencies int
	// Poll answers a GET_WINNERS before the draw at once, with
	// CodeLotteryHasntEnded, instead of holding it until the draw.
	Poll bool
	// AllWinners sends all winners, in ledger order, to every agency, instead
	// of each agency's own.
	AllWinners bool
}

// RequestKind tells requests apart.
type RequestKind uint8

// The kinds of requests.
const (
	// Hello binds the session to its agency and fences off every other one.
	Hello RequestKind = iota + 1
	// Bets is a valid batch.
	Bets
	// GetWinners ends the agency's bets and asks for its winners.
	GetWinners
	// Received says that the agency has its winners. An agency that says Hello confirms so.
	Received
	// Taken says that the session's peer has taken the winners that it was told, as far as the
	// network can tell. It is how an agency is served that never says Hello.
	Taken
	// Leave says that the session's connection is gone.
	Leave
)

// Request is one event of a session. Messages must be well formed; whether
// they are allowed is decided here.
type Request struct {
	Kind    RequestKind
	Session *Session
	Agency  codec.Agency  // not of Leave and Taken
	Count   int           // of Bets: how many
	Lines   codec.Stretch // of Bets: the lines that are stored
	// Winners are the winning lines of Bets, each followed by '\n'. They are
	// copied if the bets are taken.
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
	// Reject: the request, or with CodeAgencyTakenOver the session, is turned
	// away with Code.
	Reject
	// Draw: the draw took place; Count bets won in all. It has no session and
	// happens once.
	Draw
	// Receipt: that the agency has its winners is noted.
	Receipt
)

// Effect is what may be released once the entry of its request is durable.
type Effect struct {
	Session *Session // whom to tell; nil for Draw
	// Payload is shared by everyone who gets it, and must not be changed.
	Payload []byte
	Stored  int64
	Count   int
	Agency  codec.Agency
	// Times is how many requests this answers, all alike, if there may be more than
	// one: of Winners, and of Reject with CodeLotteryHasntEnded. 0 stands for 1. A
	// session may hold as many as its window; each is not worth an effect.
	Times    int32
	Checksum codec.Checksum // of Welcome
	Kind     EffectKind
	Code     codec.Code // of Reject
}

// Lottery is the state machine. Make one with New.
type Lottery struct {
	rules    Rules
	agencies []agency // agency id at id-1
	reported int      // how many agencies have; the draw is where it reaches len(agencies)
	served   int      // how many agencies have their winners
	bets     int64
	won      int    // winning bets of all agencies
	all      []byte // with AllWinners: everyone's lines, instead of the agencies'
}

// agency is what the lottery knows of one agency.
type agency struct {
	stored   int64
	checksum codec.Checksum // of the stored bets
	reported bool
	served   bool
	// confirms: the connection that reported had said Hello, so the agency confirms its winners, and
	// a look at them by another connection serves nobody.
	confirms bool
	won      int
	fence    uint64   // the Number of the last session that said Hello
	winners  []byte   // lines, each followed by '\n', in ledger order; frozen by the draw
	sessions *Session // bound and not fenced off, the newest first
}

// New makes the lottery before its first entry. It panics if rules.Agencies is
// out of range: that is for the configuration to check.
func New(rules Rules) *Lottery {
	if rules.Agencies < 1 || rules.Agencies > AgenciesMax {
		panic(fmt.Sprintf("lottery: %d agencies, want 1 to %d", rules.Agencies, AgenciesMax))
	}
	return &Lottery{rules: rules, agencies: make([]agency, rules.Agencies)}
}

// Replay takes an entry that was read from the ledger. Of a batch, count is how many bets there are,
// lines are all lines, and winners are the winning ones, each followed by '\n', which are copied. Of a
// report, count is 1 if the session that reported Confirms. An error wraps ErrReplay.
func (l *Lottery) Replay(entry Entry, id codec.Agency, count int, lines codec.Stretch, winners []byte) error {
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

// Apply decides a request. It returns what has to be appended to the ledger,
// and effects with those of this request appended, in the order in which they
// have to leave.
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
		return NoEntry, effects // it has been told, and its connection is closing
	}
	a := l.agency(r.Agency)
	if a == nil || s.agency != 0 && s.agency != r.Agency {
		return NoEntry, append(effects, s.reject(r.Agency, codec.CodeInvalidAgency))
	}
	// What a dead connection has said can come after what its agency says on the
	// next one: the two may be read by different event loops. It must not take the
	// agency over, nor be stored behind what Welcome has counted. Winners, once
	// there are any, are for every connection that asks.
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
		return BetsEntry, append(effects, Effect{Kind: Ack, Session: s, Agency: r.Agency, Count: r.Count})
	case GetWinners:
		l.bind(s, r.Agency, a)
		return l.getWinners(s, a, effects)
	case Received:
		if !s.hello { // its Hello was refused
			return NoEntry, append(effects, s.reject(r.Agency, codec.CodeInvalidBatch))
		}
		return l.receive(s, a, effects)
	default:
		panic(fmt.Sprintf("lottery: request of kind %d", r.Kind))
	}
}

// hello makes s the only session of its agency. From here on the others can't
// change anything: they are told so, and whatever they still send is dropped.
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
	return append(effects, Effect{Kind: Welcome, Session: s, Agency: id, Stored: a.stored, Checksum: a.checksum})
}

// receive notes that the agency has its winners, once.
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

// taken notes that the agency has its winners, unless it has to say so itself.
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

// draw announces the draw and answers everyone who waits for it.
func (l *Lottery) draw(effects []Effect) []Effect {
	waiting := 0
	for i := range l.agencies {
		for s := l.agencies[i].sessions; s != nil; s = s.next {
			if s.waiting > 0 {
				waiting++
			}
		}
	}
	effects = slices.Grow(effects, 1+waiting) // at once: growing step by step takes five times the memory
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

// Dismiss answers everyone who waits for the draw with CodeLotteryHasntEnded,
// for a server that stops before it.
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
	n := 0
	for _, c := range winners {
		if c == '\n' {
			n++
		}
	}
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

// Bets is how many bets are stored.
func (l *Lottery) Bets() int64 { return l.bets }

// Won is how many of the stored bets have the winning number.
func (l *Lottery) Won() int { return l.won }

// Stored is how many bets of an agency are stored; 0 for one that is not
// expected.
func (l *Lottery) Stored(id codec.Agency) int64 {
	if a := l.agency(id); a != nil {
		return a.stored
	}
	return 0
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

// Checksum is that of an agency's stored bets; that of none for one that is not expected.
func (l *Lottery) Checksum(id codec.Agency) codec.Checksum {
	if a := l.agency(id); a != nil {
		return a.checksum
	}
	return 0
}

// OpenSessions counts the sessions that are bound to an agency and still open.
// It looks at every agency: it is there to find leaks.
func (l *Lottery) OpenSessions() int {
	open := 0
	for i := range l.agencies {
		for s := l.agencies[i].sessions; s != nil; s = s.next {
			open++
		}
	}
	return open
}
