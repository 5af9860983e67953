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

func TestFindLeader(t *testing.T) {
	notLeader := func(leader string) []byte { return codec.AppendError(nil, codec.CodeNotLeader, leader) }
	welcome := codec.AppendWelcome(nil, codec.Welcome{Window: 1, FrameBytesMax: 1 << 10})
	leading := follower(t, notLeader(""), welcome)
	nobody := follower(t, notLeader(""))
	for _, c := range []struct{ addrs, leader string }{
		{"127.0.0.1:1", "127.0.0.1:1"}, // one address isn't asked
		{nobody + "," + leading, leading},
		{"127.0.0.1:1," + nobody + "," + follower(t, notLeader("elsewhere:5")), "elsewhere:5"},
	} {
		r := &run{ctx: t.Context(), target: Target{Addr: c.addrs}, conns: map[net.Conn]struct{}{}}
		if err := r.findLeader(); err != nil || r.target.Addr != c.leader {
			t.Errorf("of %s, %q leads, want %q: %v", c.addrs, r.target.Addr, c.leader, err)
		}
		if len(r.conns) > 0 {
			t.Error("a connection is open")
		}
	}
	r := &run{ctx: t.Context(), target: Target{Addr: "127.0.0.1:1"}, conns: map[net.Conn]struct{}{}}
	if _, err := r.askLeader(follower(t, codec.AppendError(nil, codec.CodeInvalidAgency, ""))); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
}
