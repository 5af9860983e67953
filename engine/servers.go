package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
	"loteria/engine/member"
	"loteria/engine/mesh"
	"loteria/engine/relay"
	"loteria/engine/replica"
)

// This file is a member's way to the other servers.

// id tells the servers of this draw, and their ledgers, from all others.
func (m *Member) id() (id [16]byte) {
	sum := sha256.Sum256(fmt.Appendf(nil, "loteria cluster %s\n%x", m.cfg.Cluster, m.first))
	copy(id[:], sum[:])
	return id
}

// openLedger opens the ledger of the data directory. create says to make it if there is none.
func (m *Member) openLedger(o ledger.EntryOptions, create bool) (err error) {
	o.ID, o.Create, o.First = m.id(), create, m.first
	check := history.Replay(lottery.New(m.rules()), m.settings())
	m.ledger, err = ledger.OpenEntryLog(history.Dir(m.cfg.DataDir), o, check.Visit)
	switch {
	case errors.Is(err, ledger.ErrCorrupt):
		return fmt.Errorf("%w: %w", startError(m.cfg.DataDir, err), errReplace)
	case err != nil:
		return startError(m.cfg.DataDir, err)
	}
	return nil
}

// errReplace says what to do about a ledger that may lack what the server has promised.
var errReplace = errors.New("keep the directory and don't put a copy in its place: the other servers have all of it; " +
	"let a server with a new id and an empty directory take this one's place, with `loteria cluster add`")

// open opens what is on the disk, and listens for the other servers.
func (m *Member) open(identity *mesh.Identity) (err error) {
	m.register, err = member.OpenRegister(ledger.Disk{}, history.Dir(m.cfg.DataDir), m.cfg.ID, m.log)
	if err != nil {
		return startError(m.cfg.DataDir, err)
	}
	if err := m.openLedger(ledger.EntryOptions{}, !m.register.Admitted()); err != nil {
		return err
	}
	addr := m.cfg.PeerAddr
	if addr == "" {
		addr = m.cfg.Peers[m.cfg.Peers.index(m.cfg.ID)].Addr
	}
	listening := make(chan struct{})
	m.mesh, err = mesh.Listen(mesh.Settings{
		ID: m.cfg.ID, Servers: m.cfg.Peers.addrs(), Addr: addr, Mesh: m.id(), Identity: identity,
		Take: m.take,
		Lost: func(server uint64) {
			if <-listening; m.isJoined() {
				m.member.Lost(server)
			}
		},
	}, m.log, func(from uint64, message []byte) {
		<-listening
		if m.register.Receive(from, message, m.mesh.Send) || !m.isJoined() {
			return // what a replica says is said again
		}
		m.member.Receive(from, message)
	})
	close(listening)
	return err
}

// join takes part, once enough of the others know this server. It waits for them.
func (m *Member) join(ctx context.Context) (err error) {
	first := m.cfg.Peers.ids() // that the log begins with
	others := slices.DeleteFunc(slices.Clone(first), func(id uint64) bool { return id == m.cfg.ID })
	if m.cfg.Join == JoinOn {
		first = others
	}
	if err := m.register.Join(ctx, m.ledger, others, m.mesh.Send); err != nil {
		return err
	}
	addrs := make(map[uint64]string)
	for _, peer := range m.cfg.Peers {
		addrs[peer.ID] = peer.addrs()
	}
	m.member, err = member.Start(member.Settings{
		Replica: replica.Config{ID: m.cfg.ID, Voters: first, Addrs: addrs},
		Fresh:   m.fresh, Begin: func(l *member.Log) { m.begin(l) }, Worked: m.worked,
		Changed: m.setMembers, Heard: m.hear, Send: m.mesh.Send,
	}, replica.Ledger{EntryLog: m.ledger}, m.log)
	if err != nil {
		return err
	}
	close(m.joined)
	m.control, err = m.listenControl()
	return err
}

// isJoined reports whether the member is there. Until then only join uses it.
func (m *Member) isJoined() bool {
	select {
	case <-m.joined:
		return true
	default:
		return false
	}
}

// setMembers notes which servers hold the draw now. The member's goroutine calls it.
//
// A server that was removed hears of it from the others, so their connections to it stay for a while.
func (m *Member) setMembers(now replica.Membership) {
	peers := m.peersOf(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, old := range m.peers {
		if peers.index(old.ID) < 0 {
			m.leaving = append(m.leaving, old)
		}
	}
	m.peers, m.learns = peers, len(now.Learners()) > 0
	if m.goneLater != nil {
		m.goneLater.Stop()
	}
	m.goneLater = time.AfterFunc(goneKept, m.forgetGone)
	m.connect()
}

func (m *Member) forgetGone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = nil
	m.connect()
}

// hear notes servers that another server knows. This one may be behind with the log, and get it from
// one of them. Any goroutine calls it.
func (m *Member) hear(members replica.Membership) {
	own := m.member.Members()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = nil
	for _, peer := range m.peersOf(members) {
		if m.peers.index(peer.ID) < 0 && !slices.Contains(own.Gone, peer.ID) {
			m.heard = append(m.heard, peer)
		}
	}
	m.connect()
}

// peersOf are the servers of a membership, and this one.
func (m *Member) peersOf(members replica.Membership) Peers {
	self := m.cfg.Peers[m.cfg.Peers.index(m.cfg.ID)]
	var peers Peers
	for _, s := range members.Servers {
		parts := append(strings.SplitN(s.Addr, "/", 3), "", "")
		peer := Peer{ID: s.ID, Addr: parts[0], Agencies: parts[1], Secure: parts[2]}
		if i := m.cfg.Peers.index(s.ID); s.Addr == "" && i >= 0 {
			peer = m.cfg.Peers[i]
		}
		peers = append(peers, peer)
	}
	if peers.index(self.ID) < 0 { // it is to be added, or was removed
		peers = append(peers, self)
	}
	return peers
}

// connect has the mesh connect to the servers that there are now. The caller holds mu.
func (m *Member) connect() {
	servers := m.peers.addrs()
	for _, peer := range slices.Concat(m.heard, m.leaving) {
		if _, known := servers[peer.ID]; !known && len(servers) < mesh.ServersMax {
			servers[peer.ID] = peer.Addr
		}
	}
	if err := m.mesh.SetServers(servers); err != nil && !errors.Is(err, mesh.ErrClosed) {
		m.log.Error("par", zap.String("result", "fail"), zap.NamedError("error", err))
	}
}

// members are the servers that hold the draw now, and this one.
func (m *Member) members() Peers {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers
}

// others are the ids of the other ones.
func (m *Member) others() []uint64 {
	return slices.DeleteFunc(m.members().ids(), func(id uint64) bool { return id == m.cfg.ID })
}

// Leader implements relay.Guide. It is this server only while it serves agencies.
func (m *Member) Leader() (server uint64, addr string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.status.Leader
	i := m.peers.index(id)
	if i < 0 || id == m.cfg.ID && m.door == nil {
		return 0, "", false
	}
	return id, m.cfg.agenciesAddr(m.peers[i]), true
}

// otherLeader is the leader, if that is another server.
func (m *Member) otherLeader() (server uint64, ok bool) {
	server, _, ok = m.Leader()
	return server, ok && server != m.cfg.ID
}

// agenciesAddr is where a peer's agencies come to.
func (c Config) agenciesAddr(p Peer) string {
	if p.Agencies != "" {
		return p.Agencies
	}
	return withPortOf(p.Addr, c.Addr)
}

// secureAddr is where a peer's agencies come to over TLS.
func (c Config) secureAddr(p Peer) string {
	if p.Secure != "" {
		return p.Secure
	}
	return withPortOf(c.agenciesAddr(p), c.TLSAddr)
}

// withPortOf is the host of one legal address with the port of another.
func withPortOf(addr, other string) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(other)
	return net.JoinHostPort(host, port)
}

// SecureAddrOf implements relay.Guide.
func (m *Member) SecureAddrOf(server uint64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.peers.index(server); i >= 0 {
		return m.cfg.secureAddr(m.peers[i])
	}
	return ""
}

// Changed implements relay.Guide.
func (m *Member) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Open implements relay.Guide.
func (m *Member) Open(server uint64) (net.Conn, error) {
	if server != m.cfg.ID {
		return m.openStream(server, streamAgency)
	}
	near, far, err := relay.Pair()
	if err != nil {
		return nil, err
	}
	m.taking.Go(func() {
		m.takeAgency(server, far)
		_ = far.Close() // both directions have ended
	})
	return near, nil
}

// setDoor says where agencies of the server that leads come in; nil: it doesn't lead any more.
func (m *Member) setDoor(d *door) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.door = d
	close(m.changed)
	m.changed = make(chan struct{})
}

// The first byte of a stream says what it is for.
const (
	streamAgency  = 'd' // an agency's connection, see package relay; 'a' had no identity, 'b' no reports
	streamControl = 'c' // a question of `loteria cluster`
)

func (m *Member) openStream(server uint64, purpose byte) (net.Conn, error) {
	stream, err := m.mesh.Open(server)
	if err != nil {
		return nil, err
	}
	if _, err := stream.Write([]byte{purpose}); err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	return stream, nil
}

// take takes a stream of another server.
func (m *Member) take(from uint64, stream net.Conn) {
	var purpose [1]byte
	if err := stream.SetReadDeadline(time.Now().Add(controlTimeout)); err != nil {
		return
	}
	if _, err := io.ReadFull(stream, purpose[:]); err != nil || !m.isJoined() {
		return
	}
	switch purpose[0] {
	case streamAgency:
		m.takeAgency(from, stream)
	case streamControl:
		m.answer(stream)
	}
}

// takeAgency takes an agency's connection that another server passes on, if this one leads. The other
// one may know of the leader before that serves agencies.
func (m *Member) takeAgency(from uint64, stream net.Conn) {
	d := m.awaitDoor()
	if d == nil {
		return
	}
	err := relay.Receive(stream, func(c *relay.Conn) bool { return d.offer(arrival{conn: c}) })
	if err != nil {
		m.log.Debug("par", zap.String("result", "fail"), zap.Uint64("servidor", from), zap.NamedError("error", err))
	}
}

// awaitDoor waits while this server leads and doesn't serve agencies yet, or doesn't know who leads: the
// others may hear that it does before it has noted so itself. It returns nil if another server leads.
func (m *Member) awaitDoor() *door {
	for {
		m.mu.Lock()
		d, leader, changed := m.door, m.status.Leader, m.changed
		m.mu.Unlock()
		if d != nil || leader != 0 && leader != m.cfg.ID {
			return d
		}
		select {
		case <-changed:
		case <-m.closing.Done():
			return nil
		}
	}
}

// missing are the servers to which there is no connection.
func (m *Member) missing() (ids []string) {
	for _, id := range m.others() {
		if !m.mesh.Connected(id) {
			ids = append(ids, strconv.FormatUint(id, 10))
		}
	}
	return ids
}

// sayPeers logs, while nobody leads, which servers are missing.
func (m *Member) sayPeers() {
	m.mu.Lock()
	leader := m.status.Leader
	m.mu.Unlock()
	if missing := m.missing(); leader == 0 {
		m.log.Warn("espera", zap.String("result", "in_progress"), zap.String("servidores", strings.Join(missing, ",")),
			zap.String("aviso", "no majority of SERVER_PEERS can be reached: are these servers running, "+
				"with the same SERVER_PEERS, SERVER_CLUSTER, SERVER_AGENCIES and SERVER_WINNING_NUMBER? trying again"))
	}
}

// sayLeader logs who leads, if somebody does, once for each term.
func (m *Member) sayLeader() {
	m.mu.Lock()
	status := m.status
	isNew := status.Leader != 0 && status.Term > m.termSaid
	if isNew {
		m.termSaid = status.Term
	}
	m.mu.Unlock()
	if isNew {
		m.log.Info("lider", zap.String("result", "success"), zap.Uint64("servidor", status.Leader),
			zap.Uint64("mandato", status.Term))
	}
}
