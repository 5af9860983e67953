package front

// backlog holds the answers that a session's socket has not taken yet, in order.
type backlog struct {
	chunks [][]byte // none of them is empty
	bytes  int      // of all chunks
}

// chunkBytesMin is the least capacity of a chunk of copied answers, so that many small answers
// share a chunk.
const chunkBytesMin = 1 << 10

// add appends p. It keeps a shared p as it is, and copies any other.
func (b *backlog) add(p []byte, shared bool) {
	if len(p) == 0 {
		return
	}
	b.bytes += len(p)
	if shared {
		b.chunks = append(b.chunks, p)
		return
	}
	if n := len(b.chunks); n > 0 {
		// Only our own chunks have room: the capacity of shared payloads ends with them.
		last := b.chunks[n-1]
		fits := min(cap(last)-len(last), len(p))
		b.chunks[n-1] = append(last, p[:fits]...)
		if p = p[fits:]; len(p) == 0 {
			return
		}
	}
	b.chunks = append(b.chunks, append(make([]byte, 0, max(len(p), chunkBytesMin)), p...))
}

// flush gives the socket as much as it takes.
func (b *backlog) flush(c Conn) error {
	for len(b.chunks) > 0 {
		first := b.chunks[0]
		n, err := c.Send(first)
		b.bytes -= n
		if err != nil {
			return err
		}
		if n < len(first) {
			b.chunks[0] = first[n:]
			return nil
		}
		b.chunks[0] = nil // let it go
		b.chunks = b.chunks[1:]
	}
	return nil
}
