package member

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// full is a message that has everything.
func full() *raftpb.Message {
	return &raftpb.Message{
		Type: new(raftpb.MsgApp), Reject: new(true), Context: []byte("context"),
		To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(3)), LogTerm: new(uint64(4)),
		Index: new(uint64(5)), Commit: new(uint64(6)), Vote: new(uint64(7)), RejectHint: new(uint64(1 << 63)),
		Entries: []*raftpb.Entry{
			{Type: new(raftpb.EntryNormal), Index: new(uint64(6)), Term: new(uint64(3)), Data: []byte("records")},
			{Type: new(raftpb.EntryConfChangeV2), Index: new(uint64(7)), Term: new(uint64(3))},
		},
	}
}

// appendMessage appends a message's bytes to dst.
func appendMessage(dst []byte, m *raftpb.Message) []byte {
	return append(dst, bytes.Join(messageParts(m), nil)...)
}

func TestMessages(t *testing.T) {
	for name, m := range map[string]*raftpb.Message{
		"everything": full(),
		"heartbeat":  {Type: new(raftpb.MsgHeartbeat), To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(9))},
		"nothing":    {},
	} {
		b := appendMessage(nil, m)
		got, err := parseMessage(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again := appendMessage(nil, got); !bytes.Equal(again, appendMessage(nil, m)) {
			t.Errorf("%s becomes %v", name, got)
		}
	}
	// Raft must see the same as with its own encoding.
	got, err := parseMessage(appendMessage(nil, full()))
	if err != nil {
		t.Fatal(err)
	}
	got.Entries[1].Data = nil
	if !proto.Equal(got, full()) {
		t.Errorf("got %v, want %v", got, full())
	}
}

// FuzzMessage parses what anybody may send. What is taken has one spelling.
func FuzzMessage(f *testing.F) {
	f.Add(appendMessage(nil, full()))
	f.Add(appendMessage(nil, new(raftpb.Message)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			if !errors.Is(err, errBytes) {
				t.Error(err)
			}
			return
		}
		if again := appendMessage(nil, m); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %x", b, again)
		}
	})
}

// What says only that more is committed waits for a tick, or for entries, which say it, too.
func TestCommitIndexWaits(t *testing.T) {
	var sent []raftpb.MessageType
	m := &Member{later: map[uint64]*raftpb.Message{}, settings: Settings{
		Send: func(_ uint64, urgent bool, parts ...[]byte) bool {
			message, err := parseMessage(bytes.Join(parts, nil))
			if err != nil || urgent == (len(message.GetEntries()) > 0) {
				t.Errorf("%v is sent, urgent: %v, %v", message, urgent, err)
			}
			sent = append(sent, message.GetType())
			return true
		},
	}}
	wantSent := func(want ...raftpb.MessageType) {
		t.Helper()
		if !slices.Equal(sent, want) {
			t.Errorf("%v is sent, want %v", sent, want)
		}
		sent = nil
	}
	committed, entries := full(), full()
	committed.Entries = nil
	m.send(committed)
	wantSent()
	m.sendLater()
	wantSent(raftpb.MsgApp)
	m.send(committed)
	m.send(&raftpb.Message{Type: new(raftpb.MsgHeartbeat), To: new(uint64(1))})
	m.send(entries)
	m.sendLater()
	wantSent(raftpb.MsgHeartbeat, raftpb.MsgApp)
}
