package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/replica"
)

const (
	// TickDefault makes an election begin half a second to a second behind the loss of a leader,
	// with the replica's defaults.
	TickDefault = 50 * time.Millisecond
	// membersTicks is after how many ticks a server tells the others which servers it knows.
	membersTicks = 20
	// inboxMax is how many messages wait for the member's goroutine. What comes then waits in its
	// connection.
	inboxMax = 256
)

// Settings are what a member is made with.
type Settings struct {
	Replica replica.Config
	Tick    time.Duration // 0 stands for TickDefault
	// Fresh makes a new and empty state machine, and returns what feeds it; see replica.Open.
	Fresh func() func(ledger.Record) error
	// Begin is told of each leadership that begins. The newest state machine is the leader's from
	// then on. It is called by the member's goroutine, and must not wait for it.
	Begin func(*Log)
	// Worked is told where the server stands, each time the member's goroutine has done all that
	// there was to do. By then the state machine has all that is committed, or is a leader's. It is
	// called by that goroutine, and must not wait. It may be nil.
	Worked func(replica.Status)
	// Changed is told of the servers that keep the log, at first and whenever they have changed; see
	// replica.Work. It is called by the member's goroutine, and must not wait for it. Nil: nobody is.
	Changed func(replica.Membership)
	// Heard is told which servers another one knows to keep the log. This one may not have got so far
	// in the log, and needs a connection to a leader that is new to it. Any goroutine calls it, and it
	// must not wait for the member. It may be nil.
	Heard func(replica.Membership)
	// Send gives a message, in parts, to another server's connection, and doesn't wait; see
	// mesh.Mesh.Send. Nobody changes the parts afterwards.
	Send func(to uint64, urgent bool, parts ...[]byte) bool
}

// Member is a server at work. Its methods may be called from any goroutine.
type Member struct {
	settings Settings
	log      *zap.Logger
	replica  *replica.Replica
	store    replica.Store

	inbox    chan event
	requests chan *request
	changes  chan *change
	abandons chan *change
	saves    chan *replica.Save // holds one: the replica has one save at a time
	saved    chan error         // holds one

	ctx  context.Context // done when the member is told to stop
	stop context.CancelFunc
	done chan struct{} // closed when both goroutines have ended
	err  error         // why; read it behind done

	status   atomic.Pointer[replica.Status]
	progress atomic.Pointer[[]replica.Progress]
	members  atomic.Pointer[replica.Membership]

	// The member's goroutine owns what follows.
	pending *request                   // nil: none
	change  *change                    // nil: none
	leading *Log                       // nil: this server doesn't lead
	later   map[uint64]*raftpb.Message // by server: says only what is committed, and waits for a tick
	ticks   uint64
}

// event is something of another server.
type event struct {
	message *raftpb.Message // nil: the connection to the server lost has ended
	lost    uint64
}

// request is an operation of a Log.
type request struct {
	log   *Log
	begin func(*replica.Leadership) error
	ended chan error // holds one
}

// change is a change of the members.
type change struct {
	what       replica.Change
	leadership *replica.Leadership // that makes it
	ended      chan error          // holds one
}

// Start opens the replica of a store, and lets it work. The store is the member's until Stop
// returns. Errors are those of replica.Open.
func Start(settings Settings, store replica.Store, log *zap.Logger) (*Member, error) {
	r, err := replica.Open(settings.Replica, store, settings.Fresh)
	if err != nil {
		return nil, err
	}
	if settings.Tick == 0 {
		settings.Tick = TickDefault
	}
	m := &Member{
		settings: settings, log: log, replica: r, store: store,
		inbox: make(chan event, inboxMax), requests: make(chan *request),
		later: map[uint64]*raftpb.Message{}, changes: make(chan *change), abandons: make(chan *change),
		saves: make(chan *replica.Save, 1), saved: make(chan error, 1), done: make(chan struct{}),
	}
	m.status.Store(new(replica.Status))
	m.progress.Store(new([]replica.Progress))
	m.members.Store(new(r.Members()))
	m.ctx, m.stop = context.WithCancel(context.Background())
	var saving sync.WaitGroup
	saving.Go(m.saveAll)
	go func() {
		defer close(m.done)
		m.err = m.run()
		m.stop()
		close(m.saves)
		saving.Wait()
		m.end()
	}()
	return m, nil
}

// Receive takes a message from another server. It waits while there are too many. It is what
// mesh.Deliver wants: the message is the member's from then on.
func (m *Member) Receive(from uint64, message []byte) {
	if len(message) > 0 && message[0] == kindMembers {
		m.hear(from, message[1:])
		return
	}
	parsed, err := parseMessage(message)
	if err == nil && parsed.GetFrom() != from {
		err = fmt.Errorf("%w: it says that it is from %d", errBytes, parsed.GetFrom())
	}
	if err != nil {
		m.refused(from, err)
		return
	}
	m.put(event{message: parsed})
}

// Lost takes note that another server's connection to this one has ended, behind all its messages;
// see replica.Node.Lost. It waits as Receive does.
func (m *Member) Lost(server uint64) { m.put(event{lost: server}) }

func (m *Member) put(e event) {
	select {
	case m.inbox <- e:
	case <-m.ctx.Done():
	}
}

// hear takes a membership that another server knows.
func (m *Member) hear(from uint64, text []byte) {
	members, err := replica.ParseMembership(string(text))
	if err != nil {
		m.refused(from, err)
	} else if m.settings.Heard != nil {
		m.settings.Heard(members)
	}
}

// tell tells the other servers now and then which servers this one knows.
func (m *Member) tell() {
	if m.ticks++; m.ticks%membersTicks != 0 {
		return
	}
	members := m.Members()
	message := append([]byte{kindMembers}, members.String()...)
	for _, s := range members.Servers {
		if s.ID != m.replica.ID() {
			m.settings.Send(s.ID, true, message)
		}
	}
}

func (m *Member) refused(from uint64, err error) {
	m.log.Error("par", zap.String("result", "fail"), zap.Uint64("servidor", from), zap.NamedError("error", err))
}

// Status is who leads, as this server knows it.
func (m *Member) Status() replica.Status { return *m.status.Load() }

// Committed is the index of the last entry that is known to be committed.
func (m *Member) Committed() uint64 { return m.replica.Committed() }

// Progress is how far the other servers were at the last tick, if this one led then, and else nil.
// Nobody may change it.
func (m *Member) Progress() []replica.Progress { return *m.progress.Load() }

// Members are the servers that keep the log, as far as this one knows.
func (m *Member) Members() replica.Membership { return *m.members.Load() }

// Change changes the members by one server, and returns when that is done; see
// replica.Leadership.BeginChange. It fails with commit.ErrNotLeader on a server that doesn't lead:
// if another one leads, ask that. If the server led when it was asked, nobody knows then: look at
// the members that a later leader has. Once the context is done, Change returns its error, and the
// change may take place nonetheless. It fails with ErrStopped, or why the member has failed, as the
// methods of a Log do.
func (m *Member) Change(ctx context.Context, what replica.Change) error {
	c := &change{what: what, ended: make(chan error, 1)}
	select {
	case m.changes <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.done:
		return m.reason()
	}
	select {
	case err := <-c.ended:
		return err
	case <-ctx.Done():
	case <-m.done:
		select {
		case err := <-c.ended: // it came at the same time
			return err
		default:
			return m.reason()
		}
	}
	select {
	case m.abandons <- c:
	case <-m.done:
	}
	return fmt.Errorf("%w: %v server %d may take place nonetheless", ctx.Err(), what.Kind, what.ID)
}

// Scan visits the records of all entries that are known to be committed, as replica.Scan. The store
// has to be open until it returns.
func (m *Member) Scan(visit func(ledger.Record) error) (ledger.Tail, error) {
	return replica.Scan(m.store, m.Committed(), visit)
}

// Transfer asks the leader's place to be given to another server, if this one leads. It may fail
// without a word: then this one goes on.
func (m *Member) Transfer(to uint64) error {
	ended := make(chan error, 1)
	return m.ask(&request{ended: ended, begin: func(*replica.Leadership) error {
		ended <- m.replica.Transfer(to)
		return nil
	}})
}

// Stop ends the member, and returns why it has ended: nil if nobody but Stop ended it.
func (m *Member) Stop() error {
	m.stop()
	<-m.done
	return m.err
}

// Done is closed when the member has ended: because of Stop, or of an error, which Stop returns.
func (m *Member) Done() <-chan struct{} { return m.done }

// saveAll makes durable what the replica says. It ends at the first error.
func (m *Member) saveAll() {
	for s := range m.saves {
		err := m.store.Save(s.State, s.Entries)
		m.saved <- err
		if err != nil {
			return
		}
	}
}

// run is the member's goroutine.
func (m *Member) run() error {
	ticks := time.NewTicker(m.settings.Tick)
	defer ticks.Stop()
	for {
		if err := m.work(); err != nil {
			return err
		}
		requests, changes := m.requests, m.changes
		if m.pending != nil {
			requests = nil // one at a time
		}
		if m.change != nil {
			changes = nil
		}
		var err error
		select {
		case <-m.ctx.Done():
			return nil
		case <-ticks.C:
			m.tell()
			err = m.replica.Tick()
			progress := m.replica.Progress()
			m.progress.Store(&progress)
			m.sendLater()
		case e := <-m.inbox:
			err = m.receive(e)
		case err = <-m.saved:
			if err == nil {
				err = m.replica.Saved()
			}
		case r := <-requests:
			m.begin(r)
		case c := <-changes:
			m.beginChange(c)
		case c := <-m.abandons:
			if c == m.change {
				c.leadership.AbandonChange()
				m.change = nil
			}
		}
		if err != nil {
			return err
		}
	}
}

func (m *Member) receive(e event) error {
	if e.message == nil {
		return m.replica.Lost(e.lost)
	}
	err := m.replica.Receive(e.message)
	switch {
	case errors.Is(err, replica.ErrBusy): // as if the network had lost it
		return nil
	case errors.Is(err, replica.ErrMessage):
		m.refused(e.message.GetFrom(), err)
		return nil
	}
	return err
}

// begin begins an operation.
func (m *Member) begin(r *request) {
	if r.log == nil { // of the member's own, and done when it is begun
		if err := r.begin(nil); err != nil {
			r.ended <- err
		}
		return
	}
	if err := r.begin(r.log.leadership); err != nil {
		r.ended <- err
		return
	}
	m.pending = r
}

// beginChange begins a change of the members.
func (m *Member) beginChange(c *change) {
	err := commit.ErrNotLeader
	if m.leading != nil {
		c.leadership = m.leading.leadership
		err = c.leadership.BeginChange(c.what)
	}
	if err != nil {
		c.ended <- err
		return
	}
	m.change = c
}

// work does what the replica says until there is nothing more to do.
func (m *Member) work() error {
	for more := true; more; {
		w, err := m.replica.Work()
		if err != nil {
			return err
		}
		if w.Save != nil {
			m.saves <- w.Save // there is room: the one before is saved
		}
		for _, message := range w.Messages {
			m.send(message)
		}
		if status := w.Status; status != *m.status.Load() {
			m.status.Store(&status)
		}
		if m.pending != nil {
			if done, err := m.pending.log.leadership.Poll(); done {
				m.pending.ended <- err
				m.pending = nil
			}
		}
		if m.change != nil {
			if done, err := m.change.leadership.PollChange(); done {
				m.change.ended <- err
				m.change = nil
			}
		}
		if w.Members != nil {
			m.members.Store(w.Members)
			if m.settings.Changed != nil {
				m.settings.Changed(*w.Members)
			}
		}
		if l := m.leading; l != nil && (w.Status.Role != replica.Leading || w.Status.Term != l.Term()) {
			m.leave()
		}
		if w.Begun != nil {
			m.leading = &Log{member: m, leadership: w.Begun, lost: make(chan struct{})}
			m.settings.Begin(m.leading)
		}
		more = w.More
	}
	if m.settings.Worked != nil {
		m.settings.Worked(m.Status())
	}
	return nil
}

// send sends a message. Entries may wait behind others; all else may not.
//
// A message without entries, which says that more is committed, waits for the next tick, because the
// next entries say the same. Nobody waits to hear it. If each group had one for each server, and its
// answer, a leader with small groups would send twice as many messages.
func (m *Member) send(message *raftpb.Message) {
	if message.GetType() == raftpb.MsgApp {
		if len(message.GetEntries()) == 0 {
			m.later[message.GetTo()] = message
			return
		}
		delete(m.later, message.GetTo())
	}
	m.sendNow(message)
}

// sendLater sends what has waited.
func (m *Member) sendLater() {
	for to, message := range m.later {
		m.sendNow(message)
		delete(m.later, to)
	}
}

func (m *Member) sendNow(message *raftpb.Message) {
	urgent := len(message.GetEntries()) == 0
	m.settings.Send(message.GetTo(), urgent, messageParts(message)...) // what is dropped is said again
}

// leave tells that the leadership has ended, if there is one.
func (m *Member) leave() {
	if m.leading != nil {
		close(m.leading.lost)
		m.leading = nil
	}
}

// end answers what is still asked.
func (m *Member) end() {
	m.leave()
	if m.pending != nil {
		m.pending.ended <- m.reason()
		m.pending = nil
	}
	if m.change != nil {
		m.change.ended <- m.reason()
		m.change = nil
	}
}

// ErrStopped says that the member has been stopped.
var ErrStopped = errors.New("the member has been stopped")

// reason is what a caller is told whose operation the end of the member has interrupted. It is
// called behind the end.
func (m *Member) reason() error {
	if m.err != nil {
		return m.err
	}
	return ErrStopped
}

// ask has the member's goroutine begin an operation, and waits until that is done.
func (m *Member) ask(r *request) error {
	select {
	case m.requests <- r:
	case <-m.done:
		return m.reason()
	}
	select {
	case err := <-r.ended:
		return err
	case <-m.done:
	}
	select {
	case err := <-r.ended: // it came at the same time
		return err
	default:
		return m.reason()
	}
}
