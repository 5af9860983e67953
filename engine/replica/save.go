package replica

import "go.etcd.io/raft/v3/raftpb"

// save is something to be made durable, and what waits for it.
type save struct {
	state    State
	entries  []Entry
	promises []*raftpb.Message // that may leave, or reach this node's raft, when it is durable
}

// append adds entries, which replace those from the first one's index on.
func (s *save) append(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	keep := 0
	for keep < len(s.entries) && s.entries[keep].Index < entries[0].Index {
		keep++
	}
	s.entries = append(s.entries[:keep:keep], entries...)
}

// promise adds a message that has to wait. One that it makes obsolete is dropped: that is as if the
// network had lost it, and keeps the number of messages bounded while the disk stalls. Which ones
// become obsolete without a message from another server is up to this node's clock alone: those to
// itself, and those of elections. The others are bounded by Node.Receive.
func (s *save) promise(m *raftpb.Message, self uint64) {
	if m.GetTo() == self || election(m.GetType()) {
		for i, old := range s.promises {
			if old.GetTo() == m.GetTo() && old.GetType() == m.GetType() {
				s.promises = append(s.promises[:i], s.promises[i+1:]...)
				break
			}
		}
	}
	s.promises = append(s.promises, m)
}

func election(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	default:
		return false
	}
}

func dataBytes(entries []Entry) (n int) {
	for _, e := range entries {
		n += len(e.Records)
	}
	return n
}
