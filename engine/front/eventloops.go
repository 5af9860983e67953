package front

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// readBufferBytes is the size of a loop's read buffer.
const readBufferBytes = 512 << 10

// eventLoops are gnet's event loops, one for each Loop. They are those of a gnet client, because
// those of a gnet server come with gnet's acceptor. See acceptor.
type eventLoops struct {
	client *gnet.Client
	// sentinels are the far ends of one connection of each loop, which stays open. gnet gives
	// access to an event loop only through a connection, and reports its end only by closing its
	// connections.
	sentinels []int
}

// startLoops starts gnet's event loops and attaches one to each Loop.
func startLoops(h *handler, loops []*Loop) (_ *eventLoops, err error) {
	client, err := gnet.NewClient(h,
		gnet.WithNumEventLoop(len(loops)),
		gnet.WithReadBufferCap(readBufferBytes),
		gnet.WithLogger(gnetLogger{h.front.noise}),
	)
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("they don't start: %w", err)
	}
	els := &eventLoops{client: client}
	for _, lp := range loops {
		if err := els.enlist(lp); err != nil {
			return nil, errors.Join(fmt.Errorf("they don't start: %w", err), els.stop())
		}
	}
	return els, nil
}

// enlist gives lp a sentinel, and so an event loop of its own: gnet chooses the one with the fewest
// connections.
func (els *eventLoops) enlist(lp *Loop) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	els.sentinels = append(els.sentinels, pair[1])
	for _, fd := range pair {
		unix.CloseOnExec(fd)
	}
	file := os.NewFile(uintptr(pair[0]), "sentinel")
	c, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	sentinel, err := els.client.EnrollContext(c, lp)
	if err != nil {
		return err
	}
	lp.Attach(sentinel.EventLoop())
	return nil
}

// stop ends the event loops and the connections that are still open on them, and waits until they
// have ended.
func (els *eventLoops) stop() error {
	err := els.client.Stop()
	for _, fd := range els.sentinels {
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
	}
	return err
}
