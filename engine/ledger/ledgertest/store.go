package ledgertest

import "loteria/engine/ledger"

// Store stores a log under test, and can make it fail and crash. One goroutine uses it.
type Store interface {
	// Open is an [Open] of the log.
	Open(visit func(ledger.Record) error) (Log, error)

	// Kill ends the process that has the log open, without closing it. It ends an arranged failure.
	Kill()

	// Crash does what Kill does, and ends the machines that hold the log, too: what was not made
	// durable may be lost.
	Crash()

	// BreakNext makes an operation fail: the n-th from now on that changes something, where 1 is
	// the next. The error may be any. If dead, the process ends there: all later operations fail,
	// too.
	BreakNext(n int, dead bool)

	// Failed reports whether the arranged failure has happened.
	Failed() bool
}

// Local is the ledger of package ledger in a directory of an FS, as a [Store].
type Local struct {
	*FS
	Dir     string
	Options ledger.Options // the field FS is ignored
}

// Open implements [Store].
func (s *Local) Open(visit func(ledger.Record) error) (Log, error) {
	o := s.Options
	o.FS = s.FS
	return In(s.Dir, o)(visit)
}

// BreakNext implements [Store].
func (s *Local) BreakNext(n int, dead bool) { s.Break(Fault{N: n, Dead: dead}) }

// Failed implements [Store].
func (s *Local) Failed() bool { return s.Broken() != 0 }
