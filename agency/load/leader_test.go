package load

import (
	"errors"
	"net"
	"testing"

	"loteria/codec"
)

// follower is a server that answers each connection's first message with one of its answers, the
// last one again and again.
func follower(t *testing.T, answers ...[]byte) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 64)) // a HELLO
			_, _ = conn.Write(answers[0])
			_ = conn.Close()
			if len(answers) > 1 {
				answers = answers[1:]
			}
		}
	}()
	return l.Addr().String()
}

// The load goes to the server that leads, also if that changes while it connects.
func TestConnectToLeader(t *testing.T) {
	notLeader := func(leader string) []byte { return codec.AppendError(nil, codec.CodeNotLeader, leader) }
	welcome := codec.AppendWelcome(nil, codec.Welcome{Window: 1, FrameBytesMax: 1 << 10})
	leading := follower(t, notLeader(""), welcome)
	nobody := follower(t, notLeader(""))
	moves := follower(t, welcome, notLeader(leading))
	cuts := follower(t, welcome, nil, notLeader(leading))
	for _, c := range []struct{ addrs, leader string }{
		{leading, leading}, // one address isn't asked: its first answer is for the sender
		{nobody + "," + leading, leading},
		{"127.0.0.1:1," + nobody + "," + follower(t, notLeader(leading)), leading},
		{moves + "," + nobody, leading},
		{cuts + "," + nobody, leading},
	} {
		r := &run{
			ctx: t.Context(), options: Options{Window: 1, BatchBytes: 1 << 10},
			target: Target{Addr: c.addrs},
		}
		l := &lane{agent: &agent{run: r, id: 1}, window: 1}
		r.senders, r.agents = []sender{l}, []*agent{l.agent}
		if err := r.connect(); (err != nil) != (c.addrs == leading) || r.target.Addr != c.leader {
			t.Errorf("of %s, %q leads, want %q: %v", c.addrs, r.target.Addr, c.leader, err)
		}
		if l.conn == nil || l.close() != nil {
			t.Error("the sender has no open connection")
		}
	}
	r := &run{ctx: t.Context(), target: Target{Addr: "127.0.0.1:1"}}
	r.agents = []*agent{{run: r, id: 1}}
	if _, err := r.askLeader(follower(t, codec.AppendError(nil, codec.CodeInvalidAgency, ""))); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
}
