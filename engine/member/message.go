package member

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// The kinds of messages between servers. Each begins with its kind's byte.
const (
	kindReplica byte = 1 + iota
	kindQuestion
	kindAnswer
	kindMembers // the text of a membership
)

// A replica's message is, in big-endian order:
//
//	kind, type, reject                                       a byte each
//	to, from, term, log term, index, commit, vote, hint      8 bytes each
//	context                                                  2 bytes of length, and so many
//	entries                                                  4 bytes: how many; then of each:
//	    type                                                 a byte
//	    index, term                                          8 bytes each
//	    records                                              4 bytes of length, and so many
//
// It is not raft's own encoding, which copies all records once more to find out how long they are.
const (
	messageHeaderBytes = 3 + 8*8 + 2 + 4
	entryHeaderBytes   = 1 + 2*8 + 4
)

// errBytes says that bytes are no message.
var errBytes = errors.New("not a message of a member")

// messageParts are a message's bytes. Those of entries are the entries' own, because copying them costs
// more than all else here; the others are new.
func messageParts(m *raftpb.Message) (parts [][]byte) {
	reject := byte(0)
	if m.GetReject() {
		reject = 1
	}
	entries := m.GetEntries()
	// The parts are in one array, which must not move.
	b := make([]byte, 0, messageHeaderBytes+len(m.GetContext())+len(entries)*entryHeaderBytes)
	b = append(b, kindReplica, byte(m.GetType()), reject)
	for _, n := range [...]uint64{
		m.GetTo(), m.GetFrom(), m.GetTerm(), m.GetLogTerm(), m.GetIndex(), m.GetCommit(), m.GetVote(), m.GetRejectHint(),
	} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.GetContext())))
	b = append(b, m.GetContext()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for _, e := range entries {
		b = append(b, byte(e.GetType()))
		b = binary.BigEndian.AppendUint64(b, e.GetIndex())
		b = binary.BigEndian.AppendUint64(b, e.GetTerm())
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.GetData())))
		if len(e.GetData()) > 0 {
			parts = append(parts, b, e.GetData())
			b = b[len(b):]
		}
	}
	return append(parts, b)
}

// reader takes fields off bytes. Behind the end it is short, and fields are zero.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
	}
	if r.short || n == 0 {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) number(bytes int) (n uint64) {
	for _, b := range r.bytes(bytes) {
		n = n<<8 | uint64(b)
	}
	return n
}

// parseMessage reads a message. Its entries' records, and its context, are parts of b. The error wraps
// errBytes.
func parseMessage(b []byte) (*raftpb.Message, error) {
	r := reader{b: b}
	own := byte(r.number(1)) == kindReplica
	kind, reject := raftpb.MessageType(r.number(1)), r.number(1)
	var fields [8]uint64
	for i := range fields {
		fields[i] = r.number(8)
	}
	context := r.bytes(int(r.number(2)))
	count := int(r.number(4))
	if r.short || !own || reject > 1 || count > len(r.b)/entryHeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes, type %d, %d entries", errBytes, len(b), kind, count)
	}
	m := &raftpb.Message{
		Type: &kind, Reject: new(reject == 1), Context: context,
		To: &fields[0], From: &fields[1], Term: &fields[2], LogTerm: &fields[3],
		Index: &fields[4], Commit: &fields[5], Vote: &fields[6], RejectHint: &fields[7],
	}
	for range count {
		kind := raftpb.EntryType(r.number(1))
		e := &raftpb.Entry{Type: &kind, Index: new(r.number(8)), Term: new(r.number(8))}
		e.Data = r.bytes(int(r.number(4)))
		m.Entries = append(m.Entries, e)
	}
	if r.short || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes of %d are left", errBytes, len(r.b), len(b))
	}
	return m, nil
}
