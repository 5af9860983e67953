package replica

import "loteria/engine/ledger"

// State is what a server has promised, and how far it knows the log to be committed.
type State = ledger.State

// Entry is one entry of the replicated log. Its records are a group: packed records, as
// [ledger.AppendRecord] makes them. There are none in the entry that a new leader begins its term
// with, nor in a seal. Nobody changes an entry.
type Entry = ledger.Entry

// Store is what one server keeps durably: its state and its log. A new store has the zero State and
// no entry.
//
// One goroutine at a time calls Save. Any goroutine may call the other methods, also beside a Save.
// Then a method sees the log as it was before the Save, or after it, or in between: who calls it
// asks only for what no Save that runs can change.
//
// An error is final, whatever it is: the server ends, and only opening the store anew finds out
// what it holds.
type Store interface {
	// State is the one that was saved last.
	State() (State, error)

	// LastIndex is the index of the last entry, or 0 if there is none.
	LastIndex() (uint64, error)

	// Term is the term of the entry with that index, which is from 1 to the last index.
	Term(index uint64) (uint64, error)

	// LastMembers is the index of the last entry through last that holds a [Membership]; 0 if none
	// does.
	LastMembers(last uint64) (uint64, error)

	// Entries reads entries from index first on, in order, up to last, both included; 1 <= first <=
	// last <= last index. It returns as many as fit in bytesMax bytes of data, but at least one. The
	// slice is the caller's. Its data is shared: neither the caller nor the store changes it.
	Entries(first, last uint64, bytesMax int) ([]Entry, error)

	// Save makes the state and the entries durable, and returns when they are. The entries have
	// indices without gaps. They take the place of all entries from the first one's index on, so
	// that the last of them is the last of the log. Without entries the log stays as it is. The first
	// index is at most one higher than the last index, and higher than any Commit that was saved. The
	// state's Commit is lower than the first index, and not higher than the last one before the Save.
	// The slice is the caller's again afterwards. Its data is shared, as with Entries.
	//
	// Beside entries, and in the same term, Commit need not be durable: a crash of the machine may set
	// it back to that of an earlier Save, but not behind one that was without entries.
	//
	// A Save that a crash has interrupted has left one of these, and the next opening makes durable
	// which one it found:
	//
	//   - nothing of it;
	//   - the new state, and the old log;
	//   - the new state, and the log up to the first new entry, followed by any number of the new
	//     entries, from the first one on, each whole.
	//
	// What a Save that has returned has made durable is a promise to the other servers: they count
	// on it. A store that may have lost an entry or a state refuses to open.
	Save(state State, entries []Entry) error
}

// Ledger is the Store that a ledger is which several servers keep.
type Ledger struct{ *ledger.EntryLog }

// State implements Store.
func (l Ledger) State() (State, error) { return l.EntryLog.State(), nil }

// LastIndex implements Store.
func (l Ledger) LastIndex() (uint64, error) { return l.EntryLog.LastIndex(), nil }

// Term implements Store.
func (l Ledger) Term(index uint64) (uint64, error) { return l.TermOf(index) }

// LastMembers implements Store.
func (l Ledger) LastMembers(last uint64) (uint64, error) { return l.EntryLog.LastMembers(last), nil }
