package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"loteria/codec"
	"loteria/engine/lottery"
)

// Bounds of settings that tests use.
const (
	partialBytesLow = 64 << 10
	timeoutMin      = 50 * time.Millisecond
	timeoutMax      = 24 * time.Hour
)

func TestConfigDefaultIsLegal(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// The environment of the process changes no default. The defaults in the tags are the code's
// constants.
func TestDefaultConfig(t *testing.T) {
	t.Setenv("SERVER_WINDOW", "7")
	t.Setenv("SERVER_DEADLINE", "2h")
	c := DefaultConfig()
	if c.Window != 64 || c.Deadline != (Deadline{}) {
		t.Errorf("window %d, deadline %v, want 64 and none", c.Window, c.Deadline)
	}
	if c.Durability != DurabilityFsync || c.Winners != WinnersPush || c.WinnersScope != ScopeAgency ||
		c.FrameBytesMax != codec.FrameBytesMaxDefault {
		t.Errorf("a default differs from its constant: %+v", c)
	}
}

// Every setting at the edges of what is legal.
func TestConfigValidate(t *testing.T) {
	for _, test := range []struct {
		name  string
		set   func(*Config)
		wrong string // the variable and value that the error names; empty if the setting is legal
		want  string // what the error says is legal
	}{
		{"port only", func(c *Config) { c.Addr = ":0" }, "", ""},
		{"host and port", func(c *Config) { c.Addr = "[::1]:12345" }, "", ""},
		{"service", func(c *Config) { c.Addr = "localhost:http" }, "", ""},
		{"no port", func(c *Config) { c.Addr = "localhost" }, "SERVER_ADDR=localhost", "HOST:PORT or :PORT"},
		{"empty port", func(c *Config) { c.Addr = "localhost:" }, "SERVER_ADDR=localhost:", "HOST:PORT or :PORT"},
		{"no address", func(c *Config) { c.Addr = "" }, "SERVER_ADDR=", "HOST:PORT or :PORT"},
		{"port too large", func(c *Config) { c.Addr = ":65536" }, "SERVER_ADDR=:65536", "HOST:PORT or :PORT"},
		{"too many colons", func(c *Config) { c.Addr = "::1:1" }, "SERVER_ADDR=::1:1", "HOST:PORT or :PORT"},
		{"no directory", func(c *Config) { c.DataDir = "" }, "SERVER_DATA_DIR=", "a directory"},
		{"nobody watches", func(c *Config) { c.HTTPAddr = "" }, "", ""},
		{"watched", func(c *Config) { c.HTTPAddr, c.HTTPPprof = "127.0.0.1:8080", PprofOn }, "", ""},
		{"both on any port", func(c *Config) { c.Addr, c.HTTPAddr = ":0", ":0" }, "", ""},
		{"watched without a port", func(c *Config) { c.HTTPAddr = "localhost" }, "SERVER_HTTP_ADDR=localhost", "HOST:PORT or :PORT, and not SERVER_ADDR"},
		{"watched where agencies come", func(c *Config) { c.HTTPAddr = c.Addr }, "SERVER_HTTP_ADDR=:12345", "HOST:PORT or :PORT, and not SERVER_ADDR"},
		{"profiles", func(c *Config) { c.HTTPPprof = "yes" }, "SERVER_HTTP_PPROF=yes", "off or on"},
		{"one agency", func(c *Config) { c.Agencies = 1 }, "", ""},
		{"most agencies", func(c *Config) { c.Agencies = lottery.AgenciesMax }, "", ""},
		{"no agency", func(c *Config) { c.Agencies = 0 }, "SERVER_AGENCIES=0", "1 to 100000"},
		{"too many agencies", func(c *Config) { c.Agencies = lottery.AgenciesMax + 1 }, "SERVER_AGENCIES=100001", "1 to 100000"},
		{"number 0", func(c *Config) { c.WinningNumber = 0 }, "", ""},
		{"largest number", func(c *Config) { c.WinningNumber = codec.NumberMax }, "", ""},
		{"number too large", func(c *Config) { c.WinningNumber = codec.NumberMax + 1 }, "SERVER_WINNING_NUMBER=1000000000", "0 to 999999999"},
		{"os", func(c *Config) { c.Durability = DurabilityOS }, "", ""},
		{"durability", func(c *Config) { c.Durability = "none" }, "SERVER_DURABILITY=none", "fsync or os"},
		{"no durability", func(c *Config) { c.Durability = "" }, "SERVER_DURABILITY=", "fsync or os"},
		{"poll", func(c *Config) { c.Winners = WinnersPoll }, "", ""},
		{"winners", func(c *Config) { c.Winners = "pull" }, "SERVER_WINNERS=pull", "push or poll"},
		{"all", func(c *Config) { c.WinnersScope = ScopeAll }, "", ""},
		{"scope", func(c *Config) { c.WinnersScope = "none" }, "SERVER_WINNERS_SCOPE=none", "agency or all"},
		{"no grace", func(c *Config) { c.ExitGrace = 0 }, "", ""},
		{"longest grace", func(c *Config) { c.ExitGrace = timeoutMax }, "", ""},
		{"negative grace", func(c *Config) { c.ExitGrace = -1 }, "SERVER_EXIT_GRACE=-1ns", "0s to 24h0m0s"},
		{"grace too long", func(c *Config) { c.ExitGrace = 24*time.Hour + 1 }, "SERVER_EXIT_GRACE=24h0m0.000000001s", "0s to 24h0m0s"},
		{"window 1", func(c *Config) { c.Window = 1 }, "", ""},
		{"largest window", func(c *Config) { c.Window = 4096 }, "", ""},
		{"no window", func(c *Config) { c.Window = 0 }, "SERVER_WINDOW=0", "1 to 4096"},
		{"window too large", func(c *Config) { c.Window = 4097 }, "SERVER_WINDOW=4097", "1 to 4096"},
		{"smallest frame", func(c *Config) { c.FrameBytesMax = codec.BetBytesMax }, "", ""},
		{"largest frame", func(c *Config) { c.FrameBytesMax = codec.FrameBytesMaxLimit }, "", ""},
		{"frame too small", func(c *Config) { c.FrameBytesMax = codec.BetBytesMax - 1 }, "SERVER_FRAME_BYTES_MAX=308", "309 to 16777216"},
		{"frame too large", func(c *Config) { c.FrameBytesMax = codec.FrameBytesMaxLimit + 1 }, "SERVER_FRAME_BYTES_MAX=16777217", "309 to 16777216"},
		{"least of half frames", func(c *Config) { c.PartialBytesMax = partialBytesLow }, "", ""},
		{"most of half frames", func(c *Config) { c.PartialBytesMax = 1 << 34 }, "", ""},
		{"too little for half frames", func(c *Config) { c.PartialBytesMax = partialBytesLow - 1 }, "SERVER_PARTIAL_BYTES_MAX=65535", "65536 to 17179869184"},
		{"too much for half frames", func(c *Config) { c.PartialBytesMax = 1<<34 + 1 }, "SERVER_PARTIAL_BYTES_MAX=17179869185", "65536 to 17179869184"},
		{"half frames as large as a frame", func(c *Config) { c.PartialBytesMax, c.FrameBytesMax = 1<<20, 1<<20 }, "", ""},
		{"half frames smaller than a frame", func(c *Config) { c.PartialBytesMax, c.FrameBytesMax = 1<<20-1, 1<<20 }, "SERVER_PARTIAL_BYTES_MAX=1048575", "at least SERVER_FRAME_BYTES_MAX=1048576: a frame has to fit"},
		{"one connection", func(c *Config) { c.ConnectionsMax = 1 }, "", ""},
		{"no connection", func(c *Config) { c.ConnectionsMax = 0 }, "SERVER_CONNECTIONS_MAX=0", "1 to 1000000"},
		{"too many connections", func(c *Config) { c.ConnectionsMax = 1_000_001 }, "SERVER_CONNECTIONS_MAX=1000001", "1 to 1000000"},
		{"shortest timeout", func(c *Config) { c.ReadTimeout = timeoutMin }, "", ""},
		{"timeout too short", func(c *Config) { c.ReadTimeout = 49 * time.Millisecond }, "SERVER_READ_TIMEOUT=49ms", "50ms to 24h0m0s"},
		{"timeout too long", func(c *Config) { c.ReadTimeout = 25 * time.Hour }, "SERVER_READ_TIMEOUT=25h0m0s", "50ms to 24h0m0s"},
		{"most loops", func(c *Config) { c.EventLoops = 256 }, "", ""},
		{"negative loops", func(c *Config) { c.EventLoops = -1 }, "SERVER_EVENT_LOOPS=-1", "0 to 256"},
		{"too many loops", func(c *Config) { c.EventLoops = 257 }, "SERVER_EVENT_LOOPS=257", "0 to 256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := DefaultConfig()
			test.set(&c)
			err := c.Validate()
			if test.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := test.wrong + " is not legal: want " + test.want; !errors.Is(err, ErrConfig) || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("error %v, want it to end in %q", err, want)
			}
		})
	}
}
