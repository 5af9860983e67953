package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"loteria/codec"
	"loteria/engine/mesh"
	"loteria/engine/settings"
)

// peersMin is how few servers can lose one and go on.
const peersMin = 3

// Peer is one of the servers that hold a draw together.
type Peer struct {
	ID       uint64 // from 1 on
	Addr     string // for the other servers
	Agencies string // for agencies; empty: Addr's host, with the port of SERVER_ADDR
	Secure   string // for agencies over TLS; empty: Agencies' host, with the port of SERVER_TLS_ADDR
}

// String returns the peer as SERVER_PEERS has it.
func (p Peer) String() string { return strconv.FormatUint(p.ID, 10) + "=" + p.addrs() }

// addrs are the addresses, as SERVER_PEERS has them.
func (p Peer) addrs() string {
	addrs := p.Addr
	if p.Agencies != "" {
		addrs += "/" + p.Agencies
	}
	if p.Secure != "" {
		addrs += "/" + p.Secure
	}
	return addrs
}

// ParsePeer reads a peer as SERVER_PEERS has it. There is one way to write it.
func ParsePeer(text string) (p Peer, err error) {
	digits, addrs, _ := strings.Cut(text, "=")
	parts := strings.SplitN(addrs, "/", 3)
	legal := !slices.ContainsFunc(parts, func(addr string) bool { return !codec.IsAddress(addr) })
	parts = append(parts, "", "")
	p = Peer{Addr: parts[0], Agencies: parts[1], Secure: parts[2]}
	p.ID, err = strconv.ParseUint(digits, 10, 64)
	if err != nil || p.ID == 0 || p.String() != text || !legal {
		return Peer{}, fmt.Errorf("%w: %.80q: want ID=HOST:PORT, ID=HOST:PORT/HOST:PORT or ID=HOST:PORT/HOST:PORT/HOST:PORT",
			errPeers, text)
	}
	return p, nil
}

// Peers is the value of SERVER_PEERS, ordered by id. Empty is a server alone.
type Peers []Peer

var errPeers = errors.New("not the servers of a draw")

// UnmarshalText reads peers. An error leaves p as it is.
func (p *Peers) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = nil
		return nil
	}
	var peers Peers
	for part := range strings.SplitSeq(string(text), ",") {
		peer, err := ParsePeer(part)
		if err != nil {
			return err
		}
		peers = append(peers, peer)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	for i, peer := range peers[1:] {
		if peer.ID == peers[i].ID {
			return fmt.Errorf("%w: %d is there twice", errPeers, peer.ID)
		}
	}
	if len(peers) < peersMin || len(peers) > mesh.ServersMax {
		return fmt.Errorf("%w: %d of them", errPeers, len(peers))
	}
	*p = peers
	return nil
}

// String returns the peers as UnmarshalText reads them.
func (p Peers) String() string {
	parts := make([]string, len(p))
	for i, peer := range p {
		parts[i] = peer.String()
	}
	return strings.Join(parts, ",")
}

// index is where the peer with that id is; -1 if there is none.
func (p Peers) index(id uint64) int {
	return slices.IndexFunc(p, func(peer Peer) bool { return peer.ID == id })
}

// ids are the peers' ids, in order.
func (p Peers) ids() []uint64 {
	ids := make([]uint64, len(p))
	for i, peer := range p {
		ids[i] = peer.ID
	}
	return ids
}

// addrs are the addresses for servers, by id.
func (p Peers) addrs() map[uint64]string {
	addrs := make(map[uint64]string, len(p))
	for _, peer := range p {
		addrs[peer.ID] = peer.Addr
	}
	return addrs
}

// isLocal reports whether all peers are on this machine.
func (p Peers) isLocal() bool {
	return !slices.ContainsFunc(p, func(peer Peer) bool {
		host, _, err := net.SplitHostPort(peer.Addr)
		ip := net.ParseIP(host)
		return err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}

var clusterName = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// checkPeers checks the settings of a server that is one of several.
func (c Config) checkPeers() error {
	if c.PeerAddr != "" {
		if err := settings.CheckAddr("SERVER_PEER_ADDR", c.PeerAddr, "HOST:PORT or :PORT"); err != nil {
			return err
		}
	}
	if !clusterName.MatchString(c.Cluster) {
		return settings.Illegal("SERVER_CLUSTER", c.Cluster, "1 to 64 letters, digits, dots or hyphens")
	}
	if len(c.Peers) == 0 {
		if c.ID != 0 {
			return settings.Illegal("SERVER_ID", c.ID, "0 without SERVER_PEERS")
		}
		return nil
	}
	if c.Peers.index(c.ID) < 0 {
		return settings.Illegal("SERVER_ID", c.ID, "one of SERVER_PEERS="+c.Peers.String())
	}
	if c.Durability != DurabilityFsync {
		return settings.Illegal("SERVER_DURABILITY", c.Durability,
			"fsync with SERVER_PEERS: the other servers count on what this one has saved")
	}
	files := []string{c.PeerTLSCert, c.PeerTLSKey, c.PeerTLSCA}
	missing := slices.Contains(files, "")
	switch {
	case missing && strings.Join(files, "") != "":
		return settings.Illegal("SERVER_PEER_TLS_CERT_FILE", c.PeerTLSCert,
			"all three of SERVER_PEER_TLS_CERT_FILE, _KEY_FILE and _CA_FILE, or none")
	case missing && c.PeerPlain == "off" && !c.Peers.isLocal():
		return settings.Illegal("SERVER_PEER_TLS_CERT_FILE", c.PeerTLSCert,
			"a certificate, because not all of SERVER_PEERS are on this machine: `loteria certs` makes some; "+
				"or SERVER_PEER_PLAIN=on in a network where everybody is trusted")
	}
	return nil
}
