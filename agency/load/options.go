package load

import (
	"errors"
	"fmt"
	"time"

	"loteria/agency/dataset"
	"loteria/codec"
)

// Limits of Options.
const (
	AgenciesMax   = 10_000
	WaitingMax    = 50_000
	WindowMax     = 4096
	BatchBetsMax  = 1_000_000
	BatchBytesMin = codec.BetBytesMax
	BatchBytesMax = codec.FrameBytesMaxLimit
	RateMax       = 1e9 // bets per second
	DurationMax   = time.Hour
	BetsMax       = 10_000_000_000
)

// WinningNumber is the number that the planted winners of the load play. The measured server has to
// draw it.
const WinningNumber = dataset.WinningNumberDefault

// ErrOptions says that an option is not legal.
var ErrOptions = errors.New("load: not legal")

// Options describe a load. Start from DefaultOptions.
type Options struct {
	// Agencies is how many agencies send, each on one connection. Their ids are 1 to Agencies.
	Agencies int `json:"agencies"`
	// Waiting is how many more agencies place one winning bet, and then only hold a connection and
	// wait for the draw. Their ids follow.
	Waiting int `json:"waiting"`
	// Bets is how many bets are sent in all; with 0 Duration ends the load.
	Bets int64 `json:"bets"`
	// Duration is how long batches are sent if Bets is 0.
	Duration time.Duration `json:"duration_ns"`
	// Window is how many batches of an agency may be unanswered at once.
	Window int `json:"window"`
	// BatchBets limits the bets of a batch; 0 leaves only BatchBytes as a limit.
	BatchBets int `json:"batch_bets"`
	// BatchBytes limits the payload bytes of a batch.
	BatchBytes int `json:"batch_bytes"`
	// Rate paces the load, in bets per second over all agencies. With 0 they send as fast as their
	// windows allow.
	Rate float64 `json:"rate"`
	// StopAndWait makes the agencies behave as those without HELLO. Window must be 1.
	StopAndWait bool `json:"stop_and_wait"`
	// ConnectionPerMessage makes the agencies behave as the oldest ones: every message on a
	// connection of its own. It implies StopAndWait; Window must be 1.
	ConnectionPerMessage bool `json:"connection_per_message"`
}

// DefaultOptions is a representative load: 50 agencies with a window of 32 batches of 8 kB, for
// three seconds.
func DefaultOptions() Options {
	return Options{Agencies: 50, Duration: 3 * time.Second, Window: 32, BatchBytes: 8192}
}

// Validate returns ErrOptions, wrapped with the first value that is not legal, or nil.
func (o Options) Validate() error {
	for _, n := range []struct {
		name               string
		value, least, most int64
	}{
		{"agencies", int64(o.Agencies), 1, AgenciesMax},
		{"waiting", int64(o.Waiting), 0, WaitingMax},
		{"bets", o.Bets, 0, BetsMax},
		{"window", int64(o.Window), 1, WindowMax},
		{"batch-bets", int64(o.BatchBets), 0, BatchBetsMax},
		{"batch-bytes", int64(o.BatchBytes), int64(BatchBytesMin), BatchBytesMax},
	} {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("%w: --%s %d: want %d to %d", ErrOptions, n.name, n.value, n.least, n.most)
		}
	}
	switch {
	case o.Rate < 0 || o.Rate > RateMax:
		return fmt.Errorf("%w: --rate %g: want 0 to %g bets a second", ErrOptions, o.Rate, float64(RateMax))
	case o.Bets == 0 && (o.Duration <= 0 || o.Duration > DurationMax):
		return fmt.Errorf("%w: --duration %v: want more than 0s, to %v, or say --bets", ErrOptions, o.Duration, DurationMax)
	case o.Bets > 0 && o.Bets < int64(o.Agencies):
		return fmt.Errorf("%w: --bets %d: want at least one for each of %d agencies", ErrOptions, o.Bets, o.Agencies)
	case o.Rate > 0 && o.ConnectionPerMessage:
		return fmt.Errorf("%w: --rate with --connection-per-message: choose one of them", ErrOptions)
	case (o.StopAndWait || o.ConnectionPerMessage) && o.Window != 1:
		return fmt.Errorf("%w: --window %d: agencies that stop and wait have a window of 1", ErrOptions, o.Window)
	}
	return nil
}

// helloes reports whether the agencies say HELLO.
func (o Options) helloes() bool { return !o.StopAndWait && !o.ConnectionPerMessage }
