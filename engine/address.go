package engine

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// probeAddr says plainly why an address can't be listened on: what gnet
// returns for a port in use can read "bad file descriptor". It binds and does
// not listen, so that nobody takes the probe for the server. It returns the
// address with a numeric port, which is all that gnet knows.
func probeAddr(addr string) (string, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err == nil {
		err = bind(tcp)
	}
	if err != nil {
		return "", fmt.Errorf("%w on SERVER_ADDR=%s: %w: stop what uses it, or choose another address", ErrListen, addr, err)
	}
	return tcp.String(), nil
}

func bind(tcp *net.TCPAddr) error {
	if ip := tcp.IP.To4(); ip != nil {
		return bindSocket(unix.AF_INET, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(ip)})
	}
	six := &unix.SockaddrInet6{Port: tcp.Port}
	copy(six.Addr[:], tcp.IP)
	if zone, err := net.InterfaceByName(tcp.Zone); err == nil {
		six.ZoneId = uint32(zone.Index)
	}
	err := bindSocket(unix.AF_INET6, six)
	if tcp.IP == nil && errors.Is(err, unix.EAFNOSUPPORT) {
		// No IPv6 here: any address means any of IPv4.
		err = bindSocket(unix.AF_INET, &unix.SockaddrInet4{Port: tcp.Port})
	}
	return err
}

func bindSocket(family int, sa unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	// As gnet's listener: connections of an earlier server may linger.
	err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	}
	return errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
}
