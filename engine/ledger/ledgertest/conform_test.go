package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"loteria/engine/ledger"
)

type visitor = func(ledger.Record) error

// mistake replaces some operations of a log by wrong ones. Those that are nil stay right.
type mistake struct {
	open   func(m *Memory) // called before each Open
	commit func(l Log, runs [][]byte) error
	scan   func(l Log, visit visitor) (ledger.Tail, error) // Open's replay, too
	seal   func(l Log) error
	term   func(l Log) uint64
}

// mistaken is an open log with a mistake.
type mistaken struct {
	Log
	mistake
}

func (l *mistaken) Commit(runs [][]byte) error              { return l.commit(l.Log, runs) }
func (l *mistaken) Scan(visit visitor) (ledger.Tail, error) { return l.scan(l.Log, visit) }
func (l *mistaken) Seal() error                             { return l.seal(l.Log) }
func (l *mistaken) Term() uint64                            { return l.term(l.Log) }

// fresh makes an empty log in memory with the mistake.
func (w mistake) fresh() Open {
	if w.open == nil {
		w.open = func(*Memory) {}
	}
	if w.commit == nil {
		w.commit = Log.Commit
	}
	if w.scan == nil {
		w.scan = Log.Scan
	}
	if w.seal == nil {
		w.seal = Log.Seal
	}
	if w.term == nil {
		w.term = Log.Term
	}
	m := NewMemory(1)
	return func(visit visitor) (Log, error) {
		w.open(m)
		l, err := m.Open(nil)
		if err != nil {
			return nil, err
		}
		if visit != nil {
			if _, err := w.scan(l, visit); err != nil {
				m.Kill()
				return nil, err
			}
		}
		return &mistaken{l, w}, nil
	}
}

// The checks notice each of these mistakes, and pass a log without one.
func TestConformNotices(t *testing.T) {
	runs := func(change func(runs [][]byte) [][]byte) mistake {
		return mistake{commit: func(l Log, runs [][]byte) error { return l.Commit(change(runs)) }}
	}
	visits := func(change func(visit visitor) visitor) mistake {
		return mistake{scan: func(l Log, visit visitor) (ledger.Tail, error) {
			if visit == nil {
				return l.Scan(nil)
			}
			return l.Scan(change(visit))
		}}
	}
	records := func(change func(r *ledger.Record)) mistake {
		return visits(func(visit visitor) visitor {
			return func(r ledger.Record) error { change(&r); return visit(r) }
		})
	}
	for name, wrong := range map[string]mistake{
		"none":            {},
		"two at a time":   {open: func(m *Memory) { m.Kill() }},
		"a run is lost":   runs(func(runs [][]byte) [][]byte { return runs[:max(len(runs)-2, 0)] }),
		"runs in reverse": runs(func(runs [][]byte) [][]byte { slices.Reverse(runs); return runs }),
		"runs are changed": {commit: func(l Log, runs [][]byte) error {
			err := l.Commit(runs)
			for _, run := range runs {
				clear(run[len(run)/2:])
			}
			return err
		}},
		"an empty group fails": {commit: func(l Log, runs [][]byte) error {
			if len(slices.Concat(runs...)) == 0 {
				return errors.New("nothing to commit")
			}
			return l.Commit(runs)
		}},
		"an error in place of a panic": {commit: func(l Log, runs [][]byte) (err error) {
			defer func() {
				if r := recover(); r != nil {
					err = fmt.Errorf("%v", r)
				}
			}()
			return l.Commit(runs)
		}},
		"a gap":          records(func(r *ledger.Record) { r.Seq += r.Seq / 3 }),
		"kinds of today": records(func(r *ledger.Record) { r.Kind %= 5 }),
		"small agencies": records(func(r *ledger.Record) { r.Agency &= 1<<16 - 1 }),
		"small counts":   records(func(r *ledger.Record) { r.Count &= 1<<16 - 1 }),
		"padding":        records(func(r *ledger.Record) { r.Payload = append(r.Payload, 0) }),
		"no checksum":    records(func(r *ledger.Record) { r.Checksum = 0 }),
		"visit's error is wrapped": visits(func(visit visitor) visitor {
			return func(r ledger.Record) error {
				if err := visit(r); err != nil {
					return fmt.Errorf("record: %w", err)
				}
				return nil
			}
		}),
		"visit's error is forgotten": visits(func(visit visitor) visitor {
			return func(r ledger.Record) error { _ = visit(r); return nil }
		}),
		"a scan sees half of a group": {scan: func(l Log, visit visitor) (ledger.Tail, error) {
			tail, err := l.Scan(visit)
			if after, _ := l.Scan(nil); err == nil && after.Seq > tail.Seq {
				next := tail.Seq + 1
				_, err = l.Scan(func(r ledger.Record) error {
					if r.Seq != next {
						return nil
					}
					return visit(r)
				})
				tail.Seq = next
			}
			return tail, err
		}},
		"one seal": {seal: func(l Log) error {
			if tail, err := l.Scan(nil); err != nil || tail.Sealed {
				return err
			}
			return l.Seal()
		}},
		"no term":         {term: func(Log) uint64 { return 0 }},
		"terms that fall": {term: func(l Log) uint64 { return 100 - l.Term() }},
		"a term that changes": {term: func(l Log) uint64 {
			tail, _ := l.Scan(nil)
			return l.Term() + tail.Seq
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := failure(t, func(t testing.TB) {
				for _, c := range conformance {
					c.check(t, wrong.fresh())
				}
			})
			if (err != nil) != (name != "none") {
				t.Errorf("the checks return: %v", err)
			}
			t.Log(err)
		})
	}
}
