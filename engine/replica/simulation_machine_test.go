package replica_test

import (
	"fmt"
	"strconv"
	"strings"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// simSettings are those of every draw.
var simSettings = history.Settings{Agencies: 4, WinningNumber: 7}

// simGroupBytesMax is how long a group can be.
const simGroupBytesMax = 400

// simMachine is the state machine of one server: a lottery, and the numbers of the groups in it.
type simMachine struct {
	lottery *lottery.Lottery
	reader  *history.Reader
	seq     uint64
	count   uint64       // how many records it has of the draw: a leader's lacks the memberships
	numbers map[int]bool // of the groups whose bets it has
}

func newSimMachine() *simMachine {
	m := &simMachine{numbers: map[int]bool{}}
	m.lottery = lottery.New(lottery.Rules{Agencies: simSettings.Agencies})
	m.reader = history.Replay(m.lottery, simSettings)
	return m
}

// visit takes the next record.
func (m *simMachine) visit(r ledger.Record) error {
	if m.seq++; r.Seq != m.seq {
		return fmt.Errorf("record %d came as number %d", r.Seq, m.seq)
	}
	if r.Kind == ledger.Members && !m.reader.Opened {
		return nil // the reader wants the settings first, which a ledger has before its entries
	}
	if err := m.reader.Visit(r); err != nil {
		return err
	}
	if r.Kind != ledger.Members {
		m.count++
	}
	if r.Kind == ledger.Bets {
		number, err := numberOf(r.Payload)
		if err != nil {
			return err
		}
		if m.numbers[number] {
			return fmt.Errorf("group %d came twice", number)
		}
		m.numbers[number] = true
	}
	return nil
}

// take visits the records of a group that has no place in the log yet.
func (m *simMachine) take(group []byte) error {
	for len(group) > 0 {
		var r ledger.Record
		r, group = ledger.Unpack(group)
		r.Seq = m.seq + 1
		if err := m.visit(r); err != nil {
			return err
		}
	}
	return nil
}

// digest is the machine's state, in a form that can be compared.
type digest struct {
	count     uint64
	bets      int64
	won       int
	drawn     bool
	unserved  int
	checksums [4]codec.Checksum
}

func (m *simMachine) digest() digest {
	d := digest{count: m.count, bets: m.lottery.Bets(), won: m.lottery.Won(), drawn: m.lottery.Drawn(), unserved: m.lottery.Unserved()}
	for i := range d.checksums {
		d.checksums[i] = m.lottery.Checksum(codec.Agency(i + 1))
	}
	return d
}

// group packs a numbered group for this state: a batch, and in the first one the settings.
func (m *simMachine) group(w *world, number int) []byte {
	var run []byte
	if !m.reader.Opened {
		run = simSettings.AppendRecord(run)
	}
	agency := 0
	for id := 1 + w.rng.IntN(simSettings.Agencies); agency == 0; id = id%simSettings.Agencies + 1 {
		if !m.lottery.Reported(codec.Agency(id)) {
			agency = id
		}
	}
	bets := 1 + w.rng.IntN(4)
	var lines strings.Builder
	for i := range bets {
		fmt.Fprintf(&lines, "Juan|Perez|%d|1990-05-23|%d|%d\n", 10_000_000+number, 7+i, agency)
	}
	run = ledger.AppendRecord(run, ledger.Bets, uint32(agency), uint32(bets), []byte(lines.String()))
	if m.lottery.Missing() > 1 && w.chance(4) {
		run = history.AppendReported(run, codec.Agency(agency), w.chance(50))
	}
	return run
}

// lastGroup packs the reports of all agencies that are missing, which makes the draw take place,
// and what serves them. It is empty if that is in the log.
func (m *simMachine) lastGroup() []byte {
	var run []byte
	if m.lottery.Drawn() {
		return nil
	}
	if !m.reader.Opened {
		run = simSettings.AppendRecord(run)
	}
	var served []codec.Agency
	for id := codec.Agency(1); int(id) <= simSettings.Agencies; id++ {
		if !m.lottery.Reported(id) {
			run = history.AppendReported(run, id, true)
		}
		served = append(served, id)
	}
	return history.AppendServed(run, served)
}

// numberOf is the number of the group that a batch belongs to.
func numberOf(payload []byte) (int, error) {
	fields := strings.SplitN(string(payload), "|", 4)
	if len(fields) < 4 {
		return 0, fmt.Errorf("a batch without a number: %q", payload)
	}
	document, err := strconv.Atoi(fields[2])
	return document - 10_000_000, err
}
