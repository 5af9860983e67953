package codec

import "strings"

// AddressBytesMax is the most bytes of an address on the wire.
const AddressBytesMax = 255

// portMax is the largest port of TCP.
const portMax = 1<<16 - 1

// IsAddress reports whether s is the address of a server as ERROR_NOT_LEADER has it: HOST:PORT, of
// at most [AddressBytesMax] bytes. HOST is a name, an IPv4 address, or an IPv6 address in brackets;
// PORT is 1 to 65535, in decimal. All characters are printable ASCII, without spaces, '|', which
// separates fields, and ',', which separates addresses. Whether there is such a host is another
// matter.
func IsAddress(s string) bool {
	illegal := func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '|' || c == ',' }
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 || len(s) > AddressBytesMax || strings.ContainsFunc(s, illegal) {
		return false
	}
	host := s[:colon]
	if inside, ok := strings.CutPrefix(host, "["); ok {
		// A colon is what the brackets are for: [server]:1 would be a second spelling of server:1.
		if host, ok = strings.CutSuffix(inside, "]"); !ok || !strings.Contains(host, ":") {
			return false
		}
	} else if strings.Contains(host, ":") {
		return false
	}
	port, ok := parseDecimal(s[colon+1:], portMax)
	return ok && port > 0 && host != "" && !strings.ContainsAny(host, "[]")
}
