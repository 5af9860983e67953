package front

import (
	"context"
	"sync"

	"github.com/panjf2000/gnet/v2"

	"loteria/engine/commit"
)

// mailbox is how other goroutines tell a loop what to do. Its replies keep their order, which
// gnet's own task queues do not promise. One task in gnet's queue is enough, however much is in the
// mailbox. Its size is bounded by what sessions are owed.
type mailbox struct {
	mu        sync.Mutex
	el        gnet.EventLoop // nil before the loops start, and once they are to stop
	scheduled bool           // a task in gnet's queue will look into the mailbox
	replies   []commit.Reply
	spare     []commit.Reply // an empty slice for the next replies
	tick      bool
	flush     bool
	shed      bool
	then      []func() // called when everything else is done
}

// post changes the mailbox and makes sure that the loop looks into it. It never waits for the loop.
// Any goroutine may call it.
func (lp *Loop) post(change func(*mailbox)) {
	m := &lp.mail
	m.mu.Lock()
	change(m)
	el, schedule := m.el, m.el != nil && !m.scheduled
	m.scheduled = m.scheduled || schedule
	m.mu.Unlock()
	if schedule {
		// The only error is that gnet has stopped: then no session is left.
		_ = el.Execute(context.Background(), lp)
	}
}

// then makes the loop call f when everything else that it was told to do is done. Any goroutine may
// call it.
func (lp *Loop) then(f func()) { lp.post(func(m *mailbox) { m.then = append(m.then, f) }) }

// Attach sets the event loop that runs the mailbox. Start calls it, and so does a simulation, with
// an event loop of its own. Without one, which Stop sets, the mailbox schedules nothing.
func (lp *Loop) Attach(el gnet.EventLoop) {
	lp.mail.mu.Lock()
	lp.mail.el = el
	lp.mail.mu.Unlock()
}

// Run empties the mailbox. gnet calls it on the event loop.
func (lp *Loop) Run(context.Context) error {
	m := &lp.mail
	m.mu.Lock()
	m.scheduled = false
	replies, tick, flush, shed, then := m.replies, m.tick, m.flush, m.shed, m.then
	m.replies, m.tick, m.flush, m.shed, m.then = m.spare[:0], false, false, false, nil
	m.spare = nil
	m.mu.Unlock()

	if len(replies) > 0 {
		lp.clock.at = lp.front.cfg.Now()
	}
	lp.rd.stage.Hold() // otherwise each agency that has taken its winners wakes the committer
	lp.told = lp.told[:0]
	for rest := replies; len(rest) > 0; {
		rest = lp.answer(rest)
	}
	lp.rd.stage.Release()
	for i := range replies { // after the answers: nobody waits for a log line
		lp.logReply(&replies[i], lp.told[i])
	}
	if flush {
		lp.flush()
	}
	if tick {
		lp.tick()
	}
	if shed {
		lp.rd.shed()
	}
	for _, f := range then {
		f()
	}

	clear(replies) // let sessions and payloads go
	m.mu.Lock()
	m.spare = commit.Reusable(replies)
	m.mu.Unlock()
	return nil
}
