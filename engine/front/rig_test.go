package front

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/engine/commit"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// rigDir is the data directory of a schedule's rig.
const rigDir = "data"

// testConfig is the configuration of a front for one agency, with a server's defaults.
func testConfig() Config {
	return Config{
		Agencies: 1, WinningNumber: 7574, Window: 64, FrameBytesMax: 64 << 10, UnreadBytesMax: 64 << 10, PartialBytesMax: 128 << 20,
		ConnectionsMax: 16384, ReadTimeout: 30 * time.Second, ExitGrace: 10 * time.Second,
	}
}

// rig is a server without running event loops: a ledger, a committer and a front. One goroutine
// does everything in it.
type rig struct {
	ledger    *ledger.Ledger
	committer *commit.Committer
	front     *Front
}

// newRig opens and replays the ledger of data directory dir, and makes the rest.
func newRig(t testing.TB, cfg Config, rules lottery.Rules, loops int, dir string, options ledger.Options, log *zap.Logger) *rig {
	t.Helper()
	state := lottery.New(rules)
	want := history.Settings{Agencies: rules.Agencies, WinningNumber: cfg.WinningNumber}
	replayed := history.Replay(state, want)
	led, err := ledger.Open(history.Dir(dir), options, replayed.Visit)
	if err == nil && !replayed.Opened {
		err = led.Commit([][]byte{want.AppendRecord(nil)})
	}
	if err != nil {
		t.Fatal(err)
	}
	const queueBytesMax = 8 << 20
	r := &rig{ledger: led, committer: commit.New(led, state, commit.Settings{
		Agencies: rules.Agencies, Loops: loops, QueueBytesMax: queueBytesMax, Grace: cfg.ExitGrace,
	})}
	r.front = New(cfg, log, r.committer.Stages())
	if state.Drawn() {
		r.front.Drawn()
	}
	return r
}

// commit is a turn of the committer. It reports whether it held the draw.
func (r *rig) commit(t testing.TB) (drawn bool) {
	t.Helper()
	drawn, err := r.tryCommit()
	if err != nil {
		t.Fatal(err)
	}
	return drawn
}

func (r *rig) tryCommit() (drawn bool, err error) {
	group, err := r.committer.Commit(r.front.cfg.Now())
	if group.Drawn {
		r.front.Drawn()
	}
	r.front.Deliver(group.Replies)
	return group.Drawn, err
}

// awake reports whether the committer was woken since the last call.
func (r *rig) awake() bool {
	select {
	case <-r.committer.Wake():
		return true
	default:
		return false
	}
}

// stop ends all sessions as a server that stops does.
func (r *rig) stop() {
	r.front.stopping.Store(true)
	r.front.Deliver(r.committer.Dismiss())
	r.committer.Close()
	r.front.Farewell(0)
}

// spy is a stage that keeps what is handed over.
type spy struct {
	requests []commit.Request
	payloads [][]byte // by request
	winners  [][]byte
}

func (s *spy) Add(r commit.Request, payload, winners []byte) bool {
	s.requests = append(s.requests, r)
	s.payloads = append(s.payloads, append([]byte(nil), payload...))
	s.winners = append(s.winners, append([]byte(nil), winners...))
	return true
}

func (s *spy) Hold()    {}
func (s *spy) Release() {}

func (s *spy) Waits() int64 { return 0 }

// take returns what was handed over since the last call.
func (s *spy) take() spy {
	taken := *s
	*s = spy{}
	return taken
}
