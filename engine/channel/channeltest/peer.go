// Package channeltest has a TLS client for tests that says what no honest one does.
package channeltest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
)

// The types of records.
const (
	Alert     = 21
	Handshake = 22
	Data      = 23
)

// Peer is a client behind its handshake, which makes its records itself. What it hears, its embedded
// connection reads; nothing may be written to that. One goroutine uses a Peer.
type Peer struct {
	*tls.Conn
	secret []byte // of this client's traffic
	sealer cipher.AEAD
	iv     []byte
	count  uint64 // records sealed with this key
}

// Connect does the handshake on conn. The configuration is the caller's.
func Connect(t testing.TB, conn net.Conn, config *tls.Config) *Peer {
	t.Helper()
	p, err := TryConnect(conn, config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TryConnect is Connect for a handshake that may fail.
func TryConnect(conn net.Conn, config *tls.Config) (*Peer, error) {
	var keys bytes.Buffer
	config = config.Clone()
	config.KeyLogWriter = &keys
	p := &Peer{Conn: tls.Client(conn, config)}
	if err := p.Handshake(); err != nil {
		return nil, err
	}
	if suite := p.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return nil, fmt.Errorf("this client can't make records of %s", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(keys.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(words[2])
			if err != nil {
				return nil, err
			}
			p.use(secret)
			return p, nil
		}
	}
	return nil, fmt.Errorf("no secret in %q", keys.String())
}

// use derives the key of a secret, as RFC 8446, section 7.3, has it.
func (p *Peer) use(secret []byte) {
	block, err := aes.NewCipher(expand(secret, "key", 16))
	if err == nil {
		p.sealer, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err) // the key has the right length
	}
	p.secret, p.iv, p.count = secret, expand(secret, "iv", 12), 0
}

func expand(secret []byte, label string, length int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(append(append(info, byte(len(label))), label...), 0)
	key, err := hkdf.Expand(sha256.New, secret, string(info), length)
	if err != nil {
		panic(err) // the length is legal
	}
	return key
}

// Record seals a record of that type, for the socket.
func (p *Peer) Record(kind byte, content []byte) []byte {
	nonce := bytes.Clone(p.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, p.count) {
		nonce[4+i] ^= b
	}
	p.count++
	inner := append(bytes.Clone(content), kind)
	header := []byte{Data, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(inner)+p.sealer.Overhead()))
	return p.sealer.Seal(header, nonce, inner, header)
}

// Says seals data in records of at most so many bytes.
func (p *Peer) Says(data []byte, recordMax int) (sealed []byte) {
	for len(data) > 0 {
		n := min(len(data), recordMax)
		sealed = append(sealed, p.Record(Data, data[:n])...)
		data = data[n:]
	}
	return sealed
}

// KeyUpdate seals that this client goes on with another key, and whether the other side should, too.
func (p *Peer) KeyUpdate(both bool) []byte {
	message := []byte{24, 0, 0, 1, 0}
	if both {
		message[4] = 1
	}
	sealed := p.Record(Handshake, message)
	p.use(expand(p.secret, "traffic upd", len(p.secret)))
	return sealed
}

// CloseNotify seals that this client will say nothing more.
func (p *Peer) CloseNotify() []byte { return p.Record(Alert, []byte{1, 0}) }
