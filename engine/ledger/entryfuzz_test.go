package ledger_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// FuzzMarks opens a log whose checksums are all right, with marks and records in any order: each
// line of text is a record, a mark if it begins with a digit. One that says "2 7 4" is entry 2 of
// term 7, of 4 records with the mark. There is no panic, and what is found is what the lines say,
// as far as they make entries.
func FuzzMarks(f *testing.F) {
	for _, text := range []string{
		"1 1 1", "1 1 2\na", "1 1 3\na\nb\n2 1 1\n3 5 2\nc", "1 1 3\na", "1 1 3\na\n2 1 1", "a", "2 1 1", "1 1 1\n1 1 1",
		"1 0 1", "1 9 1", "1 10 1", "1 3 1\n2 2 1", "01 1 1", "1  1 1", "1 1 0", "1 1 4294967295", "18446744073709551615 1 1",
	} {
		f.Add(text)
	}
	header := func() []byte {
		fsys := ledgertest.NewFS(1)
		if err := mustOpenEntries(f, entryOptions(fsys)).Close(); err != nil {
			f.Fatal(err)
		}
		return imageOf(fsys)[ledger.SegmentName(1)][:ledger.SegmentHeaderBytes]
	}()
	state := func() []byte {
		fsys := ledgertest.NewFS(1)
		if err := mustOpenEntries(f, entryOptions(fsys)).Save(ledger.State{Term: 9}, nil); err != nil {
			f.Fatal(err)
		}
		return imageOf(fsys)[ledger.StateName]
	}()
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 {
			return
		}
		want, whole := readLines(text)
		data, chain := slices.Clone(header), ledger.ChainStart(clusterID)
		put := func(seq uint64, run []byte) {
			chain = ledger.Complete(run, 0, seq, chain)
			data = append(data, run...)
		}
		put(1, slices.Clone(clusterFirst))
		for i, line := range lines(text) {
			put(uint64(i+2), line.pack())
		}
		files := image{ledger.SegmentName(1): data, ledger.StateName: state}
		fsys := files.fs()
		e, err := ledger.OpenEntryLog(testDir, entryOptions(fsys), nil)
		if whole != (err == nil) {
			t.Fatalf("whole: %v, but OpenEntryLog returned %v", whole, err)
		}
		if err != nil {
			if !errors.Is(err, ledger.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		(&entryModel{ledger.State{Term: 9}, want}).check(t, "opened", e)
	})
}

// line is a record of FuzzMarks.
type line struct {
	mark    bool
	payload string
	count   uint32
}

func (l line) pack() []byte {
	if l.mark {
		if l.count == 0 { // which AppendRecord refuses
			return ledger.AppendRecord(nil, ledger.Mark, 1, 0, []byte(l.payload))
		}
		return ledger.AppendRecord(nil, ledger.Mark, 0, l.count, []byte(l.payload))
	}
	return ledger.AppendRecord(nil, ledger.Bets, 1, 1, []byte(l.payload))
}

func lines(text string) (all []line) {
	start := 0
	for i := range len(text) + 1 {
		if i < len(text) && text[i] != '\n' {
			continue
		}
		l := line{payload: text[start:i], mark: start < i && text[start] >= '0' && text[start] <= '9'}
		if l.mark {
			for j := len(l.payload) - 1; j >= 0; j-- {
				if l.payload[j] != ' ' {
					continue
				}
				if count, err := strconv.ParseUint(l.payload[j+1:], 10, 32); err == nil {
					l.payload, l.count = l.payload[:j], uint32(count)
				}
				break
			}
		}
		all = append(all, l)
		start = i + 1
	}
	return all
}

// readLines says which entries the lines make, and whether nothing else stands between them.
func readLines(text string) (entries []ledger.Entry, whole bool) {
	left := uint32(0)
	term := uint64(1)
	var open ledger.Entry
	for _, l := range lines(text) {
		switch {
		case l.mark && left == 0:
			next := false
			for t := term; t <= 9; t++ {
				index := uint64(len(entries) + 1)
				if l.payload == strconv.FormatUint(index, 10)+" "+strconv.FormatUint(t, 10) && l.count > 0 {
					open, left, term, next = ledger.Entry{Index: index, Term: t}, l.count, t, true
				}
			}
			if !next {
				return nil, false
			}
		case l.mark || left == 0:
			return nil, false
		default:
			open.Records = append(open.Records, l.pack()...)
		}
		if left--; left == 0 {
			entries = append(entries, open)
		}
	}
	return entries, true
}
