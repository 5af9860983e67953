package engine

import (
	"testing"
	"time"
)

func TestDeadline(t *testing.T) {
	started := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2h":                        started.Add(2 * time.Hour),
		"1ns":                       started.Add(1),
		"2026-12-24T20:00:00Z":      time.Date(2026, 12, 24, 20, 0, 0, 0, time.UTC),
		"2026-12-24T20:00:00-03:00": time.Date(2026, 12, 24, 23, 0, 0, 0, time.UTC),
		"2020-01-01T00:00:00Z":      time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), // it has passed
	} {
		var d Deadline
		if err := d.UnmarshalText([]byte(text)); err != nil || !d.from(started).Equal(want) {
			t.Errorf("%s is %v, error %v, want %v", text, d.from(started), err, want)
		}
		var again Deadline
		if err := again.UnmarshalText([]byte(d.String())); err != nil || !again.from(started).Equal(want) {
			t.Errorf("%s is shown as %s, which is %v, error %v", text, d, again.from(started), err)
		}
	}
	for _, text := range []string{"", "0s", "-2h", "2", "soon", "2026-12-24", "2026-12-24 20:00:00", "20:00", "2026-12-24T20:00:00"} {
		before := Deadline{after: time.Hour}
		d := before
		if err := d.UnmarshalText([]byte(text)); err == nil || d != before {
			t.Errorf("%q is %v, error %v", text, d, err)
		}
	}
	if d := (Deadline{}); !d.from(started).IsZero() || d.String() != "" {
		t.Errorf("none is %v, %q", d.from(started), d)
	}
}
