package settings_test

import (
	"errors"
	"strings"
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

// Each address of a list has to be legal, and to be there once. The error names the whole value,
// and says what is wrong in it.
func TestCheckAddrs(t *testing.T) {
	const most = 3
	for _, test := range []struct {
		addrs string
		want  string // the error, after what is not legal; empty if addrs is legal
	}{
		{"server:12345", ""},
		{"no host:12345", ""},
		{"server1:12345,server2:12345", ""},
		{"a:1,a:2,[::1]:1", ""},

		{"a", ": "},
		{"256.1.1.1:1", ": 256.1.1.1 is not an IP address: "},
		{"a:1,b", ": b is not an address: "},
		{"a:1,b:99999", ": b:99999 is not an address: "},
		{"a,b:1", ": a is not an address: "},
		{"a:1,256.1.1.1:1", ": 256.1.1.1 is not an IP address: "},
		{"a:1,b:1,c:1,d:1", ": it has 4 addresses: "},
		{strings.Repeat(",", 99), ": it has 100 addresses: "},
		{",", ": address 1 is empty: "},
		{"a:1,", ": address 2 is empty: "},
		{"a:1,,b:1", ": address 2 is empty: "},
		{"a:1, b:1", ": address 2 has a space beside it: "},
		{"a:1\t,b:1", ": address 1 has a space beside it: "},
		{"a:1,b:1,a:1", ": a:1 is there twice: "},
	} {
		err := settings.CheckAddrs("AGENCY_SERVER", test.addrs, most, "HOST:PORT, or several")
		if test.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		want := "configuration: AGENCY_SERVER=" + test.addrs + " is not legal" + test.want +
			"want HOST:PORT, or several"
		if !errors.Is(err, settings.ErrIllegal) || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
