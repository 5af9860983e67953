// Package fronttest replaces gnet in tests: event loops whose tasks run when a test says so, and
// connections as gnet shows them to its handler.
package fronttest

import (
	"context"

	"github.com/panjf2000/gnet/v2"
)

// Loop is an event loop. One goroutine owns it.
type Loop struct {
	gnet.EventLoop // nil: methods that the front doesn't use panic
	tasks          []gnet.Runnable
}

// Execute implements gnet.EventLoop: it queues a task.
func (lp *Loop) Execute(_ context.Context, task gnet.Runnable) error {
	lp.tasks = append(lp.tasks, task)
	return nil
}

// Busy reports whether tasks are queued.
func (lp *Loop) Busy() bool { return len(lp.tasks) > 0 }

// Run runs the tasks that are queued now, and returns how many there were. The first error ends it,
// and the tasks after it are lost.
func (lp *Loop) Run() (int, error) {
	tasks := lp.tasks
	lp.tasks = nil
	for _, task := range tasks {
		if err := task.Run(context.Background()); err != nil {
			return len(tasks), err
		}
	}
	return len(tasks), nil
}

// Conn is a connection as gnet shows it to its handler.
type Conn struct {
	gnet.Conn // nil: methods that the front doesn't use panic
	Session   any
	In        []byte // what the next OnTraffic reads; the test owns it
}

// Context implements gnet.Conn.
func (c *Conn) Context() any { return c.Session }

// Next implements gnet.Conn: it always returns all of In.
func (c *Conn) Next(int) ([]byte, error) { return c.In, nil }
