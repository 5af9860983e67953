package mesh

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"sync"
	"testing"

	"go.uber.org/zap"
)

// without returns the servers but one.
func (n *net3) without(id uint64) map[uint64]string {
	servers := maps.Clone(n.addrs)
	delete(servers, id)
	return servers
}

func (n *net3) set(id uint64, servers map[uint64]string) {
	n.t.Helper()
	if err := n.meshes[id].SetServers(servers); err != nil {
		n.t.Fatal(err)
	}
}

// A server that is added is dialled, and heard. One that was removed and is added again is, too.
func TestServerIsAdded(t *testing.T) {
	n := newNet3(t, func(s *Settings) {
		if s.ID == 1 {
			s.Servers = map[uint64]string{1: s.Servers[1], 2: s.Servers[2]}
		}
	})
	for round := range 3 {
		n.connected(1, 2)
		n.connected(2, 3)
		if n.meshes[1].Connected(3) || n.meshes[1].Send(3, true, []byte("early")) || n.meshes[3].Connected(1) {
			t.Fatal("server 3 is there before it is added")
		}
		if s, err := n.meshes[1].Open(3); !errors.Is(err, ErrServer) {
			t.Errorf("a stream to a server that is not there: %v, %v", s, err)
		}
		kept := n.meshes[1].sendersTo(2)
		n.set(1, n.addrs)
		n.connected(1, 2, 3)
		if n.meshes[1].sendersTo(2) != kept {
			t.Error("server 2 is dialled anew")
		}
		if !n.meshes[1].Send(3, true, []byte("welcome")) || !n.meshes[3].Send(1, false, []byte("thanks")) {
			t.Error("dropped")
		}
		n.inboxes[3].await(t, round+1)
		n.inboxes[1].await(t, round+1)
		n.set(1, n.without(3))
		await(t, "server 3 to notice", func() bool {
			to := n.meshes[3].sendersTo(1)
			return !to[urgent].connected() && !to[bulk].connected()
		})
	}
	for _, m := range n.inboxes[3].await(t, 3) {
		if m != "1: welcome" {
			t.Errorf("server 3 hears %q", m)
		}
	}
}

// Of a server that is removed, all connections end: the lanes both ways, and the streams that it has
// opened. What it sends is not heard, and the rest goes on.
func TestServerIsRemoved(t *testing.T) {
	taken := make(chan uint64, 2)
	n := newNet3(t, func(s *Settings) {
		s.Take = func(from uint64, stream net.Conn) {
			taken <- from
			_, _ = stream.Read(make([]byte, 1)) // until it is closed
		}
	})
	n.connected(1, 2, 3)
	streams := map[uint64]net.Conn{}
	for _, id := range []uint64{2, 3} {
		s, err := n.meshes[id].Open(1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		streams[id] = s
		<-taken
	}
	n.set(1, n.without(3))
	if n.meshes[1].Connected(3) || n.meshes[1].Send(3, false, []byte("x")) {
		t.Error("server 3 is still there")
	}
	if _, err := streams[3].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("its stream: %v", err)
	}
	wantSilence(t, n.says(1, hello{mesh: [16]byte{7}, lane: urgent, from: 3, to: 1}))
	wantSilence(t, n.says(1, hello{mesh: [16]byte{7}, lane: stream, from: 3, to: 1}))
	n.meshes[2].Send(1, false, []byte("still here"))
	if got := n.inboxes[1].await(t, 1); got[0] != "2: still here" {
		t.Errorf("heard %q", got)
	}
	// Who took the stream gives it back a moment after server 3 has seen its end.
	await(t, "only server 2's stream to be open", func() bool {
		n.meshes[1].mu.Lock()
		defer n.meshes[1].mu.Unlock()
		return len(n.meshes[1].streams) == 1
	})
}

// says begins a connection with a hello.
func (n *net3) says(to uint64, h hello) net.Conn {
	n.t.Helper()
	c := n.wire(to)
	if _, err := c.Write(h.encode()); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// A server that moves is dialled where it is now, and heard from there.
func TestServerMoves(t *testing.T) {
	n := newNet3(t, nil)
	n.connected(1, 2, 3)
	n.stop(2)
	pid := os.Getpid()
	n.addrs = maps.Clone(n.addrs)
	n.addrs[2] = fmt.Sprintf("127.%d.%d.4:4117", 64+pid>>8&63, pid&255)
	n.start(2)
	n.set(1, n.addrs)
	n.set(3, n.addrs)
	n.connected(1, 2, 3)
	n.meshes[1].Send(2, true, []byte("found"))
	n.meshes[2].Send(1, true, []byte("found"))
	n.inboxes[1].await(t, 1)
	n.inboxes[2].await(t, 1)
}

func TestSetServersRefuses(t *testing.T) {
	n := newNet3(t, nil)
	n.connected(1, 2, 3)
	for name, servers := range map[string]map[uint64]string{
		"alone":           {1: n.addrs[1]},
		"not one of them": n.without(1),
		"zero":            {0: n.addrs[1], 1: n.addrs[1]},
		"no port":         {1: n.addrs[1], 2: "localhost"},
	} {
		if err := n.meshes[1].SetServers(servers); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.connected(1, 2, 3)
	m := n.meshes[1]
	n.stop(1)
	if err := m.SetServers(n.addrs); !errors.Is(err, ErrClosed) {
		t.Errorf("behind the end: %v", err)
	}
}

// Servers come and go while everybody sends, opens streams, and is at last closed. Deliver itself
// changes them, too.
func TestServersChangeBesideAll(t *testing.T) {
	n := newNet3(t, func(s *Settings) {
		s.Take = func(_ uint64, stream net.Conn) { _, _ = io.Copy(io.Discard, stream) }
	})
	n.connected(1, 2, 3)
	pid := os.Getpid()
	moved := maps.Clone(n.addrs)
	moved[3] = fmt.Sprintf("127.%d.%d.5:4117", 64+pid>>8&63, pid&255) // nobody is there
	var m *Mesh
	listening := make(chan struct{})
	n.stop(1)
	m, err := Listen(Settings{ID: 1, Servers: n.addrs, Addr: n.addrs[1], Mesh: [16]byte{7}}, zap.NewNop(),
		func(uint64, []byte) {
			<-listening
			if err := m.SetServers(n.addrs); err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	close(listening)
	n.meshes[1] = m
	const rounds = 200
	var busy sync.WaitGroup
	for _, servers := range []map[uint64]string{n.without(3), n.without(2), moved} {
		busy.Go(func() {
			for range rounds {
				if err := m.SetServers(servers); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	for _, id := range []uint64{2, 3} {
		busy.Go(func() {
			for range rounds {
				m.Send(id, true, []byte("urgent"))
				m.Send(id, false, []byte("bulk"))
				m.Connected(id)
				n.meshes[id].Send(1, true, []byte("change"))
			}
		})
		busy.Go(func() {
			for range rounds / 10 {
				if s, err := m.Open(id); err == nil {
					_ = s.Close()
				}
				if s, err := n.meshes[id].Open(1); err == nil {
					_ = s.Close()
					t.Error("a server that takes no streams takes one")
				}
			}
		})
	}
	busy.Wait()
	n.set(1, n.addrs)
	n.connected(1, 2, 3)
	// Closing comes beside changes, too.
	for _, servers := range []map[uint64]string{n.without(3), n.addrs} {
		busy.Go(func() {
			for err := error(nil); err == nil; err = m.SetServers(servers) {
			}
		})
	}
	n.stop(1)
	busy.Wait()
}
