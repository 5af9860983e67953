package ledgertest

import "loteria/engine/ledger"

// Ledger is what the checks ask of an open ledger. [ledger.Ledger] says what the methods mean.
type Ledger interface {
	Commit(runs [][]byte) error
	Seal() error
	Stats() ledger.Stats
	Recovered() ledger.Tail // the checks look at what it says of the seal
	Close() error
}

// Store is where a ledger under test lives, with the means to hurt it. One goroutine uses it.
type Store interface {
	// Open replays the ledger through visit and makes it ready to append, like ledger.Open.
	Open(visit func(ledger.Record) error) (Ledger, error)

	// Kill ends the process that has the ledger open, without closing it. Arranged failures end.
	Kill()

	// Crash ends the machines that hold the ledger, too: what was not made durable may be lost.
	Crash()

	// BreakNext arranges that the n-th operation from now on that changes something fails, from 1. The error need not match anything.
	// If dead, the process ends there: all that follow fail, too.
	BreakNext(n int, dead bool)

	// Failed reports whether the failure that was arranged has come.
	Failed() bool
}

// Local is the ledger of package ledger in a directory of an FS, as a [Store].
type Local struct {
	*FS
	Dir     string
	Options ledger.Options // but for FS
}

// Open implements [Store].
func (s *Local) Open(visit func(ledger.Record) error) (Ledger, error) {
	o := s.Options
	o.FS = s.FS
	l, err := ledger.Open(s.Dir, o, visit)
	if err != nil {
		return nil, err // not a nil *Ledger in an interface
	}
	return l, nil
}

// BreakNext implements [Store].
func (s *Local) BreakNext(n int, dead bool) { s.Break(Fault{N: n, Dead: dead}) }

// Failed implements [Store].
func (s *Local) Failed() bool { return s.Broken() != 0 }
