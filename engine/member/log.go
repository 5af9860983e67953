package member

import (
	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/replica"
)

// Log is a leadership, as a committer's log. Commit, Seal and Read wait until they are done. They
// return commit.ErrNotLeader once the leadership has ended, ErrStopped once the member has, and any
// other error if the member has failed: then its server has to end.
type Log struct {
	member     *Member
	leadership *replica.Leadership
	lost       chan struct{}
}

var _ commit.Log = (*Log)(nil)

// Commit implements commit.Log.
func (l *Log) Commit(runs [][]byte) error {
	return l.do(func(s *replica.Leadership) error { return s.BeginCommit(runs) })
}

// Seal implements commit.Log.
func (l *Log) Seal() error { return l.do((*replica.Leadership).BeginSeal) }

// Lost is closed when the leadership has ended, also if nobody commits anything.
func (l *Log) Lost() <-chan struct{} { return l.lost }

// Read implements commit.Log.
func (l *Log) Read() error { return l.do((*replica.Leadership).BeginRead) }

// Term implements commit.Log.
func (l *Log) Term() uint64 { return l.leadership.Term() }

// Scan implements commit.Log.
func (l *Log) Scan(visit func(ledger.Record) error) (ledger.Tail, error) {
	return l.leadership.Scan(visit)
}

// Close implements commit.Log. The server goes on leading until another one takes over.
func (l *Log) Close() error {
	l.leadership.Close()
	return nil
}

func (l *Log) do(begin func(*replica.Leadership) error) error {
	return l.member.ask(&request{log: l, begin: begin, ended: make(chan error, 1)})
}
