package settings

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// CheckAddr checks that addr, the value of the variable name, is HOST:PORT or
// :PORT, with a port that can be a number or a service's name. A host that is
// meant as an IP address has to be one; no name server is asked for others. The
// error wraps ErrIllegal and ends with legal, which says in words what is taken.
// Any goroutine may call it.
func CheckAddr(name, addr, legal string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return Illegal(name, addr, legal)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return Illegal(name, addr, legal)
	}
	// No name of a host looks like these. A resolver would say that there is no
	// such host, or take 127.1 for an address that was not meant.
	numeric := host != "" && strings.Trim(host, "0123456789.") == ""
	if numeric || strings.ContainsAny(addr, "[]") {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%w: %s=%s is not legal: %s is not an IP address: want %s", ErrIllegal, name, addr, host, legal)
		}
	}
	return nil
}
