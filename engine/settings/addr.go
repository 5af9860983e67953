package settings

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// CheckAddr checks that addr, the value of the variable name, is HOST:PORT or :PORT. The port is a
// number or a service's name. A host that looks like an IP address has to be one; other hosts are
// not looked up. The error wraps ErrIllegal and ends with legal, which says in words what the
// variable takes. Any goroutine may call it.
func CheckAddr(name, addr, legal string) error {
	if ok, why := isAddr(addr); !ok {
		return illegalAddr(name, addr, why, legal)
	}
	return nil
}

// CheckAddrs checks that addrs, the value of the variable name, is an address as CheckAddr has it,
// or up to most of them with commas between them, none of them twice. The error is like that of
// CheckAddr, and says which address is wrong if there are several. Any goroutine may call it.
func CheckAddrs(name, addrs string, most int, legal string) error {
	list := strings.Split(addrs, ",")
	if len(list) == 1 {
		return CheckAddr(name, addrs, legal)
	}
	if len(list) > most {
		return illegalAddr(name, addrs, fmt.Sprintf("it has %d addresses", len(list)), legal)
	}
	for i, addr := range list {
		ok, why := isAddr(addr)
		switch {
		case addr == "":
			why = fmt.Sprintf("address %d is empty", i+1)
		case strings.TrimSpace(addr) != addr:
			ok, why = false, fmt.Sprintf("address %d has a space beside it", i+1)
		case slices.Contains(list[:i], addr):
			ok, why = false, addr+" is there twice"
		case !ok && why == "":
			why = addr + " is not an address"
		}
		if !ok {
			return illegalAddr(name, addrs, why, legal)
		}
	}
	return nil
}

// isAddr reports whether addr is legal. If it isn't, why may say more than that.
func isAddr(addr string) (ok bool, why string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return false, ""
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return false, ""
	}
	// No host has a name like these. A resolver would answer that there is no such host, or read
	// 127.1 as an address that nobody meant.
	numeric := host != "" && strings.Trim(host, "0123456789.") == ""
	if numeric || strings.ContainsAny(addr, "[]") {
		if _, err := netip.ParseAddr(host); err != nil {
			return false, host + " is not an IP address"
		}
	}
	return true, ""
}

func illegalAddr(name, value, why, legal string) error {
	if why == "" {
		return Illegal(name, value, legal)
	}
	return fmt.Errorf("%w: %s=%s is not legal: %s: want %s", ErrIllegal, name, value, why, legal)
}
