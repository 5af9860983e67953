package settings

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// CheckAddr checks that addr, the value of the variable name, is HOST:PORT or :PORT. The port is a
// number or a service's name. A host that looks like an IP address has to be one; other hosts are
// not looked up. The error wraps ErrIllegal and ends with legal, which says in words what the
// variable takes. Any goroutine may call it.
func CheckAddr(name, addr, legal string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return Illegal(name, addr, legal)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return Illegal(name, addr, legal)
	}
	// No host has a name like these. A resolver would answer that there is no such host, or read
	// 127.1 as an address that nobody meant.
	numeric := host != "" && strings.Trim(host, "0123456789.") == ""
	if numeric || strings.ContainsAny(addr, "[]") {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%w: %s=%s is not legal: %s is not an IP address: want %s",
				ErrIllegal, name, addr, host, legal)
		}
	}
	return nil
}
