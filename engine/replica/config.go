package replica

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
)

var (
	// ErrLost says that a server's store lacks what the server had promised to the others: it was
	// replaced by an older one, cut or damaged. The server must not go on under its id, because it
	// could vote or acknowledge as if it had promised nothing.
	ErrLost = errors.New("the log lacks entries that this server had acknowledged: " +
		"don't start it with this directory again; let it join anew, under a new id and with an empty directory")

	// ErrDiverged says that this server's log contradicts what the leader says is committed. Some
	// server has lost what it had promised.
	ErrDiverged = errors.New("the log contradicts the log of the other servers: " +
		"keep a copy of every server's directory, and compare them")

	// ErrMessage says that a message is not one that a server of this cluster sends to this one.
	ErrMessage = errors.New("not a message to this server")

	// ErrBusy says that something can't be taken now, and was not taken at all. The same call may
	// succeed later.
	ErrBusy = errors.New("too much is waiting")

	errConfig = errors.New("replica: configuration")
)

// Config is what a [Node] has to know. Zero fields from ElectionTicks on have defaults.
type Config struct {
	// ID is this server's, not 0. An id stands for what its holder has promised: a server that has
	// lost its store comes back under a new one.
	ID uint64
	// Voters are the servers whose majority decides; Learners only follow. They are those that the log
	// begins with, and count until the log has a Membership. All of these name the same. A server that
	// is added later names those that it can get the log from, and not itself.
	Voters, Learners []uint64
	// Addrs are the addresses of these servers by id, for the log; some or all may be missing.
	Addrs map[uint64]string

	// ElectionTicks is how many ticks a server waits for a leader before it wants to lead, at least;
	// the most is twice as many, less one. After as many, a leader that hears from no majority gives
	// up. 10 by default.
	ElectionTicks int
	// HeartbeatTicks is how often a leader sends heartbeats. 1 by default.
	HeartbeatTicks int

	// MessageBytesMax is how much data of entries a message has, if it has more than one. A server that
	// catches up is sent the first one again with every heartbeat until it has saved it. 64 KiB by
	// default.
	MessageBytesMax int
	// InflightMax is how many messages with entries are on their way to a server, and
	// InflightBytesMax how much data. 64 and 4 MiB by default. What is
	// behind them waits in the log.
	InflightMax, InflightBytesMax int
	// UncommittedBytesMax is how much data a leader takes before it is committed, if it is more than
	// one entry. 16 MiB by default.
	UncommittedBytesMax int
	// UnsavedBytesMax is how much data that isn't saved yet a follower keeps, if it is more than one
	// message. 16 MiB by default.
	UnsavedBytesMax int
	// RecentBytesMax is how much data of the newest saved entries is kept in memory, if it is more
	// than one entry. Older ones are read back from the store. 16 MiB by default.
	RecentBytesMax int
	// ApplyBytesMax is how much data of committed entries a Ready hands out, if it is more than one
	// entry. 4 MiB by default.
	ApplyBytesMax int
}

// promisesMax is how many messages wait for a save.
const promisesMax = 256

func orDefault(n *int, byDefault int) {
	if *n == 0 {
		*n = byDefault
	}
}

// complete sets what is not set, and checks the rest.
func (c *Config) complete() error {
	orDefault(&c.ElectionTicks, 10)
	orDefault(&c.HeartbeatTicks, 1)
	orDefault(&c.MessageBytesMax, 64<<10)
	orDefault(&c.InflightMax, 64)
	orDefault(&c.InflightBytesMax, max(4<<20, c.MessageBytesMax))
	orDefault(&c.UncommittedBytesMax, 16<<20)
	orDefault(&c.UnsavedBytesMax, 16<<20)
	orDefault(&c.RecentBytesMax, 16<<20)
	orDefault(&c.ApplyBytesMax, 4<<20)
	if err := c.membership().check(); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	switch {
	case c.ID == 0 || raft.IsLocalMsgTarget(c.ID):
		return fmt.Errorf("%w: the id %d is not allowed", errConfig, c.ID)
	case c.HeartbeatTicks < 1 || c.ElectionTicks <= c.HeartbeatTicks:
		return fmt.Errorf("%w: %d ticks for an election, %d for a heartbeat", errConfig, c.ElectionTicks, c.HeartbeatTicks)
	case min(c.MessageBytesMax, c.InflightMax, c.UncommittedBytesMax, c.UnsavedBytesMax,
		c.RecentBytesMax, c.ApplyBytesMax) < 1,
		c.InflightBytesMax < c.MessageBytesMax:
		return fmt.Errorf("%w: limits %+v", errConfig, *c)
	}
	return nil
}

// membership is the one that the log begins with.
func (c *Config) membership() (m Membership) {
	for _, id := range c.Voters {
		m.Servers = append(m.Servers, Server{ID: id, Addr: c.Addrs[id]})
	}
	for _, id := range c.Learners {
		m.Servers = append(m.Servers, Server{ID: id, Addr: c.Addrs[id], Learner: true})
	}
	slices.SortFunc(m.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	return m
}
