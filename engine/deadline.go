package engine

import (
	"errors"
	"fmt"
	"time"
)

// Deadline is until when the draw has to take place: a time, or how long after the server's start.
// The zero value is none.
type Deadline struct {
	at    time.Time
	after time.Duration
}

var errDeadline = errors.New("not a duration and not a time")

// UnmarshalText reads a positive duration as time.ParseDuration has it, or a time as RFC 3339 has it.
func (d *Deadline) UnmarshalText(text []byte) error {
	if after, err := time.ParseDuration(string(text)); err == nil && after > 0 {
		*d = Deadline{after: after}
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%w: %.40q", errDeadline, text)
	}
	*d = Deadline{at: at}
	return nil
}

// String is the deadline as UnmarshalText reads it; empty if there is none.
func (d Deadline) String() string {
	switch {
	case !d.at.IsZero():
		return d.at.Format(time.RFC3339)
	case d.after > 0:
		return d.after.String()
	}
	return ""
}

// from is the deadline of a server that was started then; zero if there is none.
func (d Deadline) from(started time.Time) time.Time {
	if d.after > 0 {
		return started.Add(d.after)
	}
	return d.at
}
