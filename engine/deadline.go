package engine

import (
	"errors"
	"fmt"
	"time"
)

// Deadline is the time by which the draw has to take place: a point in time, or a duration from the
// server's start. The zero value is no deadline.
type Deadline struct {
	at    time.Time
	after time.Duration
}

var errDeadline = errors.New("not a duration and not a time")

// UnmarshalText reads a positive duration in the format of time.ParseDuration, or a time in that of
// RFC 3339. After an error the deadline is as it was.
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

// String returns the deadline in the format that UnmarshalText reads; empty if there is none.
func (d Deadline) String() string {
	switch {
	case !d.at.IsZero():
		return d.at.Format(time.RFC3339)
	case d.after > 0:
		return d.after.String()
	}
	return ""
}

// from is the deadline of a server that started at that time; zero if there is none.
func (d Deadline) from(started time.Time) time.Time {
	if d.after > 0 {
		return started.Add(d.after)
	}
	return d.at
}
