package agency

import "slices"

// window is the queue of batches that are not acknowledged, oldest first. The
// first of them are on the wire; the others wait until the window has room.
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
	sent      int      // ≤ len(queue), ≤ framesMax, but for a moment after a shrink
}

// push appends a batch behind the others.
func (w *window) push(b *Batch) { w.queue = append(w.queue, b) }

// roomy reports whether another batch could be sent at once if it were pushed.
func (w *window) roomy() bool { return len(w.queue) < w.framesMax }

// next takes the oldest waiting batch as sent; nil if there is none or the
// window is full.
func (w *window) next() *Batch {
	if w.sent == len(w.queue) || w.sent >= w.framesMax {
		return nil
	}
	w.sent++
	return w.queue[w.sent-1]
}

// oldest is the batch that the next answer is about, nil if none was sent.
func (w *window) oldest() *Batch {
	if w.sent == 0 {
		return nil
	}
	return w.queue[0]
}

// answered takes the oldest sent batch off the queue; nil if none was sent.
// Moving at most WindowMax pointers is cheaper than being clever.
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

// refit is for a new connection: nothing is sent, bets before stored are
// dropped, and no payload is larger than payloadBytesMax.
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
