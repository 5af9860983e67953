package front

// backlog is what a session was answered and its socket has not taken yet, in
// order.
type backlog struct {
	chunks [][]byte // the first is sent from its beginning; never empty
	bytes  int      // of all chunks
}

// chunkBytesMin is how large a chunk of small answers is at least, so that many
// of them don't take more than their bytes.
const chunkBytesMin = 1 << 10

// add appends p. A shared p is kept as it is; any other is copied.
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
		// Only our own chunks have room: shared payloads are cut to their length.
		last := b.chunks[n-1]
		fits := min(cap(last)-len(last), len(p))
		b.chunks[n-1] = append(last, p[:fits]...)
		if p = p[fits:]; len(p) == 0 {
			return
		}
	}
	b.chunks = append(b.chunks, append(make([]byte, 0, max(len(p), chunkBytesMin)), p...))
}

// flush gives the socket as much as it takes. progress is whether it took any.
func (b *backlog) flush(c Conn) (progress bool, err error) {
	for len(b.chunks) > 0 {
		first := b.chunks[0]
		n, err := c.Send(first)
		progress = progress || n > 0
		b.bytes -= n
		if err != nil {
			return progress, err
		}
		if n < len(first) {
			b.chunks[0] = first[n:]
			return progress, nil
		}
		b.chunks[0] = nil // let it go
		b.chunks = b.chunks[1:]
	}
	return progress, nil
}
