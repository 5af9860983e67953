package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"loteria/codec"
	"loteria/engine/lottery"
)

// Limits of the configuration.
const (
	WindowMax         = 4096
	FrameBytesMaxLow  = codec.BetBytesMax // a frame holds at least one bet
	ConnectionsMaxTop = 1_000_000
	EventLoopsMax     = 256
	QueueBytesLow     = 64 << 10
	QueueBytesTop     = 1 << 30
	UnreadBytesLow    = 1 << 10
	UnreadBytesTop    = 1 << 30
	PartialBytesLow   = 64 << 10
	PartialBytesTop   = 1 << 34
	timeoutMin        = 50 * time.Millisecond
	timeoutMax        = 24 * time.Hour
)

// ErrConfig says that a setting is not legal. The message names the variable,
// its value and what is legal.
var ErrConfig = errors.New("configuration")

// Config is what a server is started with. Its tags are read by
// github.com/caarlos0/env and by the command's help: help says what the
// setting means and legal which values are taken.
type Config struct {
	Addr                 string        `env:"SERVER_ADDR" envDefault:":12345" help:"address to listen on" legal:"HOST:PORT or :PORT"`
	Agencies             int           `env:"SERVER_AGENCIES" envDefault:"5" help:"expected agencies: ids 1 to this number" legal:"1 to 100000"`
	WinningNumber        uint32        `env:"SERVER_WINNING_NUMBER" envDefault:"7574" help:"the number that wins" legal:"0 to 999999999"`
	DataDir              string        `env:"SERVER_DATA_DIR" envDefault:"data" help:"directory of the ledger and its exports" legal:"a directory that can be written"`
	Durability           string        `env:"SERVER_DURABILITY" envDefault:"fsync" help:"what an ACK waits for: the disk, or only the operating system" legal:"fsync or os"`
	Winners              string        `env:"SERVER_WINNERS" envDefault:"push" help:"answer to GET_WINNERS before the draw: held until it, or an error at once" legal:"push or poll"`
	WinnersScope         string        `env:"SERVER_WINNERS_SCOPE" envDefault:"agency" help:"whose winners an agency gets: its own, or all" legal:"agency or all"`
	ExitGrace            time.Duration `env:"SERVER_EXIT_GRACE" envDefault:"10s" help:"how long to wait, with no agency connected, for one to come back; after the draw also how long one may stay connected that has taken its winners, at least 2s, and how long a server that starts then waits for the first to come, at least 2s" legal:"a duration, 0s to 24h"`
	Deadline             Deadline      `env:"SERVER_DEADLINE" help:"until when the draw has to take place; without it the server ends with exit code 3 and names the agencies that are missing. None if empty" legal:"a duration from the start, such as 2h, or a time, such as 2026-12-24T20:00:00Z"`
	Window               int           `env:"SERVER_WINDOW" envDefault:"64" help:"frames of a connection that may be unanswered at once" legal:"1 to 4096"`
	FrameBytesMax        int           `env:"SERVER_FRAME_BYTES_MAX" envDefault:"65536" help:"largest payload of an agency's frame, in bytes" legal:"309 to 16777216"`
	ConnectionsMax       int           `env:"SERVER_CONNECTIONS_MAX" envDefault:"16384" help:"connections at once; lowered, with a warning, to what the descriptor limit allows" legal:"1 to 1000000"`
	ConnectionsPerSource int           `env:"SERVER_CONNECTIONS_PER_SOURCE" envDefault:"0" help:"connections at once of one source address; 0 is no limit" legal:"0 to 1000000"`
	ReadTimeout          time.Duration `env:"SERVER_READ_TIMEOUT" envDefault:"30s" help:"how long a new connection may say nothing, or not who it is, a frame stay half sent, and a peer read nothing of what it asked for" legal:"a duration, 50ms to 24h"`
	UnreadBytesMax       int           `env:"SERVER_UNREAD_BYTES_MAX" envDefault:"65536" help:"bytes of answers that a peer may leave unread when it is owed another one, beside what its socket takes" legal:"1024 to 1073741824"`
	PartialBytesMax      int64         `env:"SERVER_PARTIAL_BYTES_MAX" envDefault:"134217728" help:"bytes of half sent frames to keep, of all connections; over it, whoever has been half sent longest is told ERROR_TIMEOUT and closed; at least SERVER_FRAME_BYTES_MAX" legal:"65536 to 17179869184"`
	QueueBytesMax        int           `env:"SERVER_QUEUE_BYTES_MAX" envDefault:"8388608" help:"bytes of bets that may wait for the disk, in all; when it is full, nothing more is read" legal:"65536 to 1073741824"`
	EventLoops           int           `env:"SERVER_EVENT_LOOPS" envDefault:"0" help:"event loops; 0 is one per core" legal:"0 to 256"`
	// AgencySecretsFile is read by Open.
	AgencySecretsFile string `env:"SERVER_AGENCY_SECRETS_FILE" help:"the agencies' secrets, a line each: id and secret; each agency then has to prove that it knows its own. None if empty" legal:"a file with a line for each expected agency"`

	// NoExport leaves bets.csv and winners.csv out: `loteria bench` measures the
	// server, and has no use for gigabytes of CSV. No variable sets it.
	NoExport bool
}

// The values of the settings that are words.
const (
	DurabilityFsync = "fsync"
	DurabilityOS    = "os"
	WinnersPush     = "push"
	WinnersPoll     = "poll"
	ScopeAgency     = "agency"
	ScopeAll        = "all"
)

// DefaultConfig is the configuration with every setting at its default.
func DefaultConfig() Config {
	return Config{
		Addr:            ":12345",
		Agencies:        5,
		WinningNumber:   7574,
		DataDir:         "data",
		Durability:      DurabilityFsync,
		Winners:         WinnersPush,
		WinnersScope:    ScopeAgency,
		ExitGrace:       10 * time.Second,
		Window:          64,
		FrameBytesMax:   codec.FrameBytesMaxDefault,
		ConnectionsMax:  16384,
		QueueBytesMax:   8 << 20,
		UnreadBytesMax:  64 << 10,
		PartialBytesMax: 128 << 20,
		ReadTimeout:     30 * time.Second,
	}
}

// Validate checks every setting and opens nothing. The error wraps ErrConfig
// and names the first variable that is wrong.
func (c Config) Validate() error {
	if err := CheckAddr("SERVER_ADDR", c.Addr, "HOST:PORT or :PORT"); err != nil {
		return err
	}
	if c.DataDir == "" {
		return illegal("SERVER_DATA_DIR", c.DataDir, "a directory")
	}
	for _, n := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"SERVER_AGENCIES", int64(c.Agencies), 1, lottery.AgenciesMax},
		{"SERVER_WINNING_NUMBER", int64(c.WinningNumber), 0, codec.NumberMax},
		{"SERVER_WINDOW", int64(c.Window), 1, WindowMax},
		{"SERVER_FRAME_BYTES_MAX", int64(c.FrameBytesMax), int64(FrameBytesMaxLow), codec.FrameBytesMaxLimit},
		{"SERVER_CONNECTIONS_MAX", int64(c.ConnectionsMax), 1, ConnectionsMaxTop},
		{"SERVER_CONNECTIONS_PER_SOURCE", int64(c.ConnectionsPerSource), 0, ConnectionsMaxTop},
		{"SERVER_QUEUE_BYTES_MAX", int64(c.QueueBytesMax), QueueBytesLow, QueueBytesTop},
		{"SERVER_UNREAD_BYTES_MAX", int64(c.UnreadBytesMax), UnreadBytesLow, UnreadBytesTop},
		{"SERVER_PARTIAL_BYTES_MAX", c.PartialBytesMax, PartialBytesLow, PartialBytesTop},
		{"SERVER_EVENT_LOOPS", int64(c.EventLoops), 0, EventLoopsMax},
	} {
		if n.value < n.least || n.value > n.most {
			return illegal(n.name, n.value, fmt.Sprintf("%d to %d", n.least, n.most))
		}
	}
	if c.PartialBytesMax < int64(c.FrameBytesMax) {
		return illegal("SERVER_PARTIAL_BYTES_MAX", c.PartialBytesMax,
			fmt.Sprintf("at least SERVER_FRAME_BYTES_MAX=%d: a frame has to fit", c.FrameBytesMax))
	}
	for _, d := range []struct {
		name               string
		value, least, most time.Duration
	}{
		{"SERVER_EXIT_GRACE", c.ExitGrace, 0, timeoutMax},
		{"SERVER_READ_TIMEOUT", c.ReadTimeout, timeoutMin, timeoutMax},
	} {
		if d.value < d.least || d.value > d.most {
			return illegal(d.name, d.value, fmt.Sprintf("%s to %s", d.least, d.most))
		}
	}
	for _, w := range []struct{ name, value, one, other string }{
		{"SERVER_DURABILITY", c.Durability, DurabilityFsync, DurabilityOS},
		{"SERVER_WINNERS", c.Winners, WinnersPush, WinnersPoll},
		{"SERVER_WINNERS_SCOPE", c.WinnersScope, ScopeAgency, ScopeAll},
	} {
		if w.value != w.one && w.value != w.other {
			return illegal(w.name, w.value, w.one+" or "+w.other)
		}
	}
	return nil
}

// CheckAddr checks that addr, the value of the variable name, is HOST:PORT or
// :PORT, with a port that can be a number or a service's name. A host that is
// meant as an IP address has to be one; no name server is asked for others. The
// error wraps ErrConfig and ends with legal, which says in words what is taken.
// Any goroutine may call it.
func CheckAddr(name, addr, legal string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return illegal(name, addr, legal)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return illegal(name, addr, legal)
	}
	// No name of a host looks like these. A resolver would say that there is no
	// such host, or take 127.1 for an address that was not meant.
	numeric := host != "" && strings.Trim(host, "0123456789.") == ""
	if numeric || strings.ContainsAny(addr, "[]") {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%w: %s=%s is not legal: %s is not an IP address: want %s", ErrConfig, name, addr, host, legal)
		}
	}
	return nil
}

func illegal(name string, value any, legal string) error {
	return fmt.Errorf("%w: %s=%v is not legal: want %s", ErrConfig, name, value, legal)
}
