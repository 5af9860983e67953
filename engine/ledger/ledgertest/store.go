package ledgertest

import "loteria/engine/ledger"

// Store is where a log under test lives, with the means to hurt it. One goroutine uses it.
type Store interface {
	// Open is an [Open].
	Open(visit func(ledger.Record) error) (Log, error)

	// Kill ends the process that has the log open, without closing it. Arranged failures end.
	Kill()

	// Crash ends the machines that hold the log, too: what was not made durable may be lost.
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
func (s *Local) Open(visit func(ledger.Record) error) (Log, error) {
	o := s.Options
	o.FS = s.FS
	return In(s.Dir, o)(visit)
}

// BreakNext implements [Store].
func (s *Local) BreakNext(n int, dead bool) { s.Break(Fault{N: n, Dead: dead}) }

// Failed implements [Store].
func (s *Local) Failed() bool { return s.Broken() != 0 }
