package settings_test

import (
	"errors"
	"testing"

	"loteria/engine/settings"
)

// Any possible host is legal, also a name that can't be resolved: it may exist later. A host that
// looks like an IP address has to be one, else the error names it.
func TestCheckAddr(t *testing.T) {
	for _, test := range []struct {
		addr  string
		wrong string // the host that is no IP address; empty if addr is legal
	}{
		{"255.0.0.1:1", ""},
		{"[::1]:1", ""},
		{"[::ffff:127.0.0.1]:1", ""},
		{"[fe80::1%eth0]:1", ""},
		{"server:12345", ""},
		{"no-such-host.invalid:1", ""},
		{"10.0.0.1.example.com:1", ""},
		{"127-1:1", ""},
		{"cafe:1", ""},
		{"256.1.1.1:12345", "256.1.1.1"},
		{"1.2.3.4.5:1", "1.2.3.4.5"},
		{"127.0.0.01:1", "127.0.0.01"},
		{"127.0.0.1.:1", "127.0.0.1."},
		{"127.1:1", "127.1"},
		{"2130706433:1", "2130706433"},
		{"[1:2:3:4:5:6:7:8:9]:1", "1:2:3:4:5:6:7:8:9"},
		{"[cafe]:1", "cafe"},
	} {
		err := settings.CheckAddr("AGENCY_SERVER", test.addr, "HOST:PORT")
		if test.wrong == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		want := "configuration: AGENCY_SERVER=" + test.addr + " is not legal: " +
			test.wrong + " is not an IP address: want HOST:PORT"
		if !errors.Is(err, settings.ErrIllegal) || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
