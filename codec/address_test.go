package codec

import (
	"net"
	"strings"
	"testing"
)

func TestIsAddress(t *testing.T) {
	longest := strings.Repeat("a", AddressBytesMax-len(":65535")) + ":65535"
	for _, test := range []struct {
		s    string
		want bool
	}{
		{"server2:12345", true},
		{"a:1", true},
		{"a:65535", true},
		{"10.0.0.1:12345", true},
		{"server-2.example.com:12345", true},
		{"no_such_host:1", true},
		{"[::1]:12345", true},
		{"[fe80::1%eth0]:12345", true},
		{longest, true},

		{"a" + longest, false},
		{"", false},
		{":", false},
		{":1", false},
		{"a", false},
		{"a:", false},
		{"a:0", false},
		{"a:01", false},
		{"a:+1", false},
		{"a:-1", false},
		{"a:65536", false},
		{"a:99999999999999999999", false},
		{"a:http", false},
		{"a:1:2", false},
		{"::1", false},
		{"[::1]", false},
		{"[::1]1", false},
		{"[::1:1", false},
		{"::1]:1", false},
		{"[]:1", false},
		{"[:1", false},
		{"[a]:1", false},
		{"[[::1]]:1", false},
		{"a[:1", false},
		{"a]:1", false},
		{"a b:1", false},
		{" a:1", false},
		{"a:1 ", false},
		{"a:1\n", false},
		{"a\x00:1", false},
		{"a\x7f:1", false},
		{"a\x1b[31m:1", false},
		{"ñandú:1", false},
		{"a\u0080:1", false},
		{"a,b:1", false},
		{"a:1,b:1", false},
		{"a|b:1", false},
		{"a:1|b", false},
	} {
		if got := IsAddress(test.s); got != test.want {
			t.Errorf("IsAddress(%q) = %v, want %v", test.s, got, test.want)
		}
	}
}

// An address goes through net.SplitHostPort, which dials it, and comes back from its host and port.
func FuzzIsAddress(f *testing.F) {
	for _, s := range []string{"server2:12345", "[::1]:1", "[a]:1", "a:01", ":1", "a|b:1", "::1", "a:65536", "a,b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !IsAddress(s) {
			return
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil || net.JoinHostPort(host, port) != s || host == "" {
			t.Fatalf("%q has the host %q and the port %q, %v", s, host, port, err)
		}
		if n, err := net.LookupPort("tcp", port); err != nil || n < 1 {
			t.Fatalf("%q has the port %d, %v", s, n, err)
		}
		if len(s) > AddressBytesMax || strings.ContainsAny(s, " |,\x7f") || isBetLine([]byte("ERROR_NOT_LEADER|"+s)) {
			t.Fatalf("%q is an address", s)
		}
	})
}
