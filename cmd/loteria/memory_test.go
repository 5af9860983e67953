//go:build linux && !race

// The race detector multiplies memory, so these tests would measure the detector's.

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"loteria/agency/load/proc"
	"loteria/codec"
	"loteria/engine"
	"loteria/engine/front"
)

// peersEnv sets how many hostile connections TestMemoryOfHostilePeers opens; peersDefault if it isn't
// set. The more there are, the less the bound's other terms hide.
//
//	LOTERIA_PEERS=5000 go test ./cmd/loteria -run TestMemoryOfHostilePeers -v
const (
	peersEnv     = "LOTERIA_PEERS"
	peersDefault = 1500
	// peerPartialBytes is the limit of all half frames for each peer: too little for all to send
	// almost a frame.
	peerPartialBytes = 26 << 10
)

// peakMemory is the process's peak of resident memory, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	used, err := proc.UsageOf(pid)
	if err != nil || used.MemoryPeak == 0 {
		t.Fatalf("the server uses %+v, %v", used, err)
	}
	return used.MemoryPeak
}

// unreadSockets is how many connections to the port hold bytes that the server has not read.
func unreadSockets(t *testing.T, port int) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	local := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		const localField, stateField, queuesField, established = 1, 3, 4, "01"
		if len(fields) > queuesField && strings.HasSuffix(fields[localField], local) &&
			fields[stateField] == established &&
			!strings.HasSuffix(fields[queuesField], ":00000000") {
			n++
		}
	}
	return n
}

// The server's limits bound the memory that hostile peers can make it use. Each case is one attack,
// with the terms of the bound in engine/limits.go that it can reach. An honest agency beside the
// peers is served.
func TestMemoryOfHostilePeers(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	hostilePeers := numberFrom(t, peersEnv, peersDefault)
	cfg := engine.DefaultConfig()
	cfg.PartialBytesMax = int64(hostilePeers * peerPartialBytes)
	const (
		session = int64(front.SessionBytesMax)
		noise   = 32 << 20
		// loopBuffers is how many buffers for half frames a loop keeps for reuse, and one that it
		// has just added to. bufferSpare is what the allocator adds to each.
		loopBuffers, bufferSpare = 64 + 1, 9 << 10
	)
	queue := 4 * int64(cfg.QueueBytesMax)
	half := cfg.PartialBytesMax/8*9 +
		int64(runtime.NumCPU()*loopBuffers*(cfg.FrameBytesMax+bufferSpare))
	const bet = "Juan|Pérez|12345678|1990-05-23|7574|3"
	line := "Juan|Pérez|12345678|1990-05-23|1234|1\n"
	fullBatch := strings.Repeat(line, cfg.FrameBytesMax/len(line))
	header := strconv.Itoa(cfg.FrameBytesMax) + "\n"
	for _, test := range []struct {
		name  string
		says  string // what each peer sends; only peers with half frames read answers
		half  int64  // the most bytes of half frames that the server keeps of all peers together
		draws bool   // the peers report, so the other two agencies complete the draw
	}{
		{"say nothing", "", 0, false},
		{"announce a frame", header, half, false},
		{"say all of a frame but its last byte", header + strings.Repeat("x", cfg.FrameBytesMax-1), half, false},
		{"wait for winners, as often as the window allows", strings.Repeat("13\nGET_WINNERS|2", cfg.Window), 0, true},
		{"say what is refused, and don't read why", strings.Repeat("1\nx", cfg.Window), 0, false},
		{"bet as much as a frame holds", string(codec.AppendFrame(nil, []byte(fullBatch))), 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			// Without GOGC the server sets the collector up as it does for users.
			environment := append(os.Environ(), "GOGC=", "LOG_LEVEL=warn", "SERVER_ADDR="+addr,
				"SERVER_AGENCIES=3", "SERVER_READ_TIMEOUT=1h", "SERVER_DATA_DIR="+dir,
				fmt.Sprintf("SERVER_PARTIAL_BYTES_MAX=%d", cfg.PartialBytesMax))
			server, err := startProcess(dir, environment, "loteria", "server")
			if err != nil {
				t.Fatal(err)
			}
			defer server.kill()
			honest := dialRetrying(t, addr)
			before := peakMemory(t, server.cmd.Process.Pid)
			peers, listeners := make([]*net.TCPConn, hostilePeers), make([]chan string, hostilePeers)
			for i := range peers {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if peers[i] = c.(*net.TCPConn); test.half > 0 {
					listeners[i] = listen(c)
				}
				if err := c.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write([]byte(test.says)); err != nil {
					t.Fatal(err)
				}
			}
			looks := time.NewTicker(20 * time.Millisecond)
			defer looks.Stop()
			for deadline := time.Now().Add(eventTimeout); unreadSockets(t, port) > 0; <-looks.C {
				if time.Now().After(deadline) {
					t.Fatalf("%d connections are not read", unreadSockets(t, port))
				}
			}
			// The honest agency's answer comes after everything that the server read before.
			message := codec.AppendFrame(codec.AppendHello(nil, 3), []byte(bet))
			if _, err := honest.Write(message); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, len("27\nWELCOME|0|64|65536|000000003\nACK"))
			if err := honest.SetReadDeadline(time.Now().Add(eventTimeout)); err != nil {
				t.Fatal(err)
			}
			for read := 0; read < len(answer); {
				n, err := honest.Read(answer[read:])
				if err != nil {
					t.Fatalf("the honest agency hears %q, %v", answer[:read], err)
				}
				read += n
			}
			if !bytes.HasSuffix(answer, []byte("3\nACK")) {
				t.Errorf("the honest agency hears %q", answer)
			}
			if test.draws {
				one := dialRetrying(t, addr)
				if _, err := one.Write(codec.AppendGetWinners(nil, 1)); err != nil {
					t.Fatal(err)
				}
				if _, err := honest.Write(codec.AppendGetWinners(nil, 3)); err != nil {
					t.Fatal(err)
				}
				won := codec.AppendFrame(nil, []byte(bet))
				got := make([]byte, len(won))
				if _, err := io.ReadFull(honest, got); err != nil || !bytes.Equal(got, won) {
					t.Errorf("the honest agency's winners are %q, %v", got, err)
				}
			}
			grown := peakMemory(t, server.cmd.Process.Pid) - before
			bound := (int64(hostilePeers)*session+test.half+queue)*(100+serverGCPercent)/100 + noise
			t.Logf("%d peers: %.1f MB, %d bytes each; the bound is %.1f MB",
				hostilePeers, float64(grown)/1e6, grown/int64(hostilePeers), float64(bound)/1e6)
			if grown > bound {
				t.Errorf("the server's memory grew by %d bytes, the bound is %d", grown, bound)
			}
			if test.half > 0 {
				judgeHalfSent(t, peers, listeners, len(test.says), int(cfg.PartialBytesMax))
			}
		})
	}
}

// listen reads what a peer is told until the server closes, and then closes. The channel gets the
// text, with an error at its end if there was one.
func listen(c net.Conn) chan string {
	told := make(chan string, 1)
	go func() {
		defer c.Close()
		b, err := io.ReadAll(c)
		if err != nil {
			b = fmt.Append(b, err)
		}
		told <- string(b)
	}()
	return told
}

// judgeHalfSent checks peers that have sent bytesSaid bytes of a frame, one after the other. If all
// together exceed the limit in bytes, the first ones get ERROR_TIMEOUT; the last ones get nothing.
func judgeHalfSent(t *testing.T, peers []*net.TCPConn, listeners []chan string, bytesSaid, limit int) {
	t.Helper()
	timeout := string(codec.AppendError(nil, codec.CodeTimeout, ""))
	told := make([]bool, len(peers))
	left := 0
	for i, c := range peers {
		_ = c.CloseWrite() // fails for a peer that has been told and has closed
		switch heard := <-listeners[i]; heard {
		case timeout:
			told[i] = true
		case "":
			left++
		default:
			t.Fatalf("peer %d is told %q", i, heard)
		}
	}
	// A buffer is at most an eighth larger than such a frame. The total may exceed the limit by an
	// eighth, until the loops have told each other.
	least, most := min(limit*8/9/bytesSaid, len(peers)), limit*9/8/bytesSaid
	if bytesSaid < 4<<10 {
		least, most = len(peers), len(peers) // each takes the smallest buffer, and all fit
	}
	if left < least || left > most {
		t.Errorf("%d of %d half sent peers are left, want %d to %d", left, len(peers), least, most)
	}
	// The loops read nearly in the order in which the peers wrote.
	if first, last := len(peers)-2*most, len(peers)-least/2; left < len(peers) &&
		(slices.Contains(told[:first], false) || slices.Contains(told[last:], true)) {
		t.Errorf("some of the first %d peers got no timeout, or some of the last %d got one",
			first, len(peers)-last)
	}
	t.Logf("%d of %d half sent peers got a timeout", len(peers)-left, len(peers))
}

// The server doesn't copy an agency's winners for peers that don't read them. The kernel has
// buffers of its own for each connection, so this test has fewer peers.
func TestMemoryOfPeersThatDoNotRead(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and sends megabytes")
	}
	const (
		peers      = 200
		batches    = 16
		batchBytes = 1 << 20
		bound      = 3 * batches * batchBytes // mostly the winners, in a slice that has grown
	)
	dir := t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	environment := append(os.Environ(), "GOGC=100", "LOG_LEVEL=warn",
		"SERVER_ADDR="+addr, "SERVER_AGENCIES=1",
		"SERVER_FRAME_BYTES_MAX="+strconv.Itoa(batchBytes), "SERVER_DATA_DIR="+dir)
	server, err := startProcess(dir, environment, "loteria", "server")
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	honest := dialRetrying(t, addr)
	if err := honest.SetDeadline(time.Now().Add(eventTimeout)); err != nil {
		t.Fatal(err)
	}
	line := "Juan|Pérez|12345678|1990-05-23|7574|1\n"
	batch := codec.AppendFrame(nil, bytes.Repeat([]byte(line), batchBytes/len(line)))
	for range batches {
		if _, err := honest.Write(batch); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(honest, make([]byte, len("3\nACK"))); err != nil {
			t.Fatal(err)
		}
	}
	winners := func() {
		t.Helper()
		if _, err := honest.Write(codec.AppendGetWinners(nil, 1)); err != nil {
			t.Fatal(err)
		}
		want := batches*(batchBytes/len(line))*len(line) - 1
		frame := codec.AppendFrameHeader(nil, want)
		if n, err := io.CopyN(io.Discard, honest, int64(len(frame)+want)); err != nil {
			t.Fatalf("read %d bytes of the winners: %v", n, err)
		}
	}
	winners()
	before := peakMemory(t, server.cmd.Process.Pid)
	for range peers {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("13\nGET_WINNERS|1")); err != nil {
			t.Fatal(err)
		}
		// The frame's first byte says that the server has answered.
		if err := c.SetReadDeadline(time.Now().Add(eventTimeout)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	winners()
	grown := peakMemory(t, server.cmd.Process.Pid) - before
	t.Logf("%d peers leave %d MB each unread: %.1f MB; the bound is %.1f MB",
		peers, batches*batchBytes>>20, float64(grown)/1e6, float64(bound)/1e6)
	if grown > bound {
		t.Errorf("the server's memory grew by %d bytes, the bound is %d", grown, bound)
	}
}

// dialRetrying tries to connect until the server listens.
func dialRetrying(t *testing.T, addr string) net.Conn {
	t.Helper()
	looks := time.NewTicker(10 * time.Millisecond)
	defer looks.Stop()
	for deadline := time.Now().Add(eventTimeout); ; <-looks.C {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
