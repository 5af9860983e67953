package agency

import "slices"

// window is the queue of unacknowledged batches, oldest first. The first ones are sent; the others
// wait until the window has room.
//
//	answered ◀── ┌────┬────┬────┬────┬────┬────┐ ◀── push
//	             │    │    │    │    │    │    │
//	             └────┴────┴────┴────┴────┴────┘
//	             └── sent ──┘└─── waiting ─────┘
//	              ≤ framesMax
//
// It is pure: it sends nothing.
type window struct {
	framesMax int      // at least 1
	queue     []*Batch // in input order, without gaps
	sent      int      // ≤ len(queue); ≤ framesMax, unless framesMax has shrunk meanwhile
}

// push appends a batch to the queue.
func (w *window) push(b *Batch) { w.queue = append(w.queue, b) }

// roomy reports whether another batch could be sent at once if it were pushed.
func (w *window) roomy() bool { return len(w.queue) < w.framesMax }

// next counts the oldest waiting batch as sent and returns it; nil if there is none or the window
// is full.
func (w *window) next() *Batch {
	if w.sent == len(w.queue) || w.sent >= w.framesMax {
		return nil
	}
	w.sent++
	return w.queue[w.sent-1]
}

// oldest is the batch that the next answer is for; nil if none was sent.
func (w *window) oldest() *Batch {
	if w.sent == 0 {
		return nil
	}
	return w.queue[0]
}

// answered takes the oldest sent batch off the queue; nil if none was sent. It moves the rest, at
// most WindowMax pointers, which is cheap.
func (w *window) answered() *Batch {
	b := w.oldest()
	if b != nil {
		w.queue = slices.Delete(w.queue, 0, 1)
		w.sent--
	}
	return b
}

// unsend makes every sent batch wait again: its connection is gone.
func (w *window) unsend() { w.sent = 0 }

// refit prepares the queue for a new connection: it counts no batch as sent, drops the bets before
// stored, and splits batches with more than payloadBytesMax payload bytes.
func (w *window) refit(stored int64, payloadBytesMax int) {
	w.unsend()
	var queue []*Batch
	for _, b := range w.queue {
		if b.end() <= stored {
			continue
		}
		if b.First < stored {
			b.skip(int(stored - b.First))
		}
		queue = append(queue, b.split(payloadBytesMax)...)
	}
	w.queue = queue
}

// clear drops everything.
func (w *window) clear() { w.queue, w.sent = nil, 0 }
