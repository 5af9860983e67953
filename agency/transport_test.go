package agency

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"

	"loteria/codec"
	"loteria/codec/certtest"
)

// transport is what a test's agencies and servers talk over.
type transport uint8

const (
	overTCP       transport = iota
	overTLS                 // only the server has a certificate
	overMutualTLS           // the agency has one, too
)

// transportOf is the transport of a test, or of a test in it: TestOverTLS runs others again.
func transportOf(t *testing.T) transport {
	switch name := t.Name() + "/"; {
	case strings.HasPrefix(name, "TestOverTLS/server/"):
		return overTLS
	case strings.HasPrefix(name, "TestOverTLS/mutual/"):
		return overMutualTLS
	}
	return overTCP
}

// The client's tests pass over TLS as over TCP. Certificates stand for secrets, so those with secrets
// run where agencies have none.
func TestOverTLS(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, test := range map[string]func(*testing.T){
		"TestUploadAndWinners":        TestUploadAndWinners,
		"TestWire":                    TestWire,
		"TestUploadAgain":             TestUploadAgain,
		"TestServerRestarts":          TestServerRestarts,
		"TestRejected":                TestRejected,
		"TestRejectedHello":           TestRejectedHello,
		"TestRejectedRow":             TestRejectedRow,
		"TestLastWords":               TestLastWords,
		"TestPoll":                    TestPoll,
		"TestServerStopsWhileWaiting": TestServerStopsWhileWaiting,
		"TestWinnersAgain":            TestWinnersAgain,
		"TestManyWinners":             TestManyWinners,
		"TestWrongServer":             TestWrongServer,
		"TestNoBets":                  TestNoBets,
		"TestClose":                   TestClose,
		"TestSeveralServers":          TestSeveralServers,
		"TestNotLeader":               TestNotLeader,
		"TestNotLeaderWithOneAddress": TestNotLeaderWithOneAddress,
		"TestTakeOver":                TestTakeOver,
		"TestTakeOverWhileWaiting":    TestTakeOverWhileWaiting,
		"TestRepliesInPieces":         TestRepliesInPieces,
		"TestWindowRespected":         TestWindowRespected,
		"TestWaitingIsSilent":         TestWaitingIsSilent,
		"TestServerThatHangs":         TestServerThatHangs,
		"TestSlowServer":              TestSlowServer,
		"TestPollEvery":               TestPollEvery,
		"TestCancel":                  TestCancel,
		"TestAgainAfterCancel":        TestAgainAfterCancel,
		"TestKeepAlive":               TestKeepAlive,
	} {
		t.Run("mutual/"+name, test)
	}
	for name, test := range map[string]func(*testing.T){
		"TestUploadAndWinners":        TestUploadAndWinners,
		"TestSecretOnEveryConnection": TestSecretOnEveryConnection,
		"TestSecretRejected":          TestSecretRejected,
		"TestNotLeaderWithSecret":     TestNotLeaderWithSecret,
	} {
		t.Run("server/"+name, test)
	}
}

// testAuthority signs all certificates of a test run. It may be used in bubbles, too.
var testAuthority struct {
	once sync.Once
	*certtest.Authority
	server tls.Certificate
}

func authority(t *testing.T) *certtest.Authority {
	testAuthority.once.Do(func() {
		testAuthority.Authority = certtest.New(t)
		testAuthority.server = testAuthority.Issue(t, longLived(certtest.Server(1, "memory", "a", "b", "c", "d")))
	})
	return testAuthority.Authority
}

// longLived makes a certificate valid for as long as its authority is.
func longLived(p certtest.Paper) certtest.Paper {
	p.NotBefore, p.NotAfter = certtest.First, certtest.Last
	return p
}

// serverTLS is how a server does TLS that asks agencies for a certificate, or doesn't.
func serverTLS(t *testing.T, mutual bool) *tls.Config {
	a := authority(t)
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{testAuthority.server},
		NextProtos: []string{codec.TLSProtocol}, SessionTicketsDisabled: true,
	}
	if mutual {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool()
	}
	return config
}

func serverConn(t *testing.T, conn net.Conn) net.Conn {
	return tls.Server(conn, serverTLS(t, transportOf(t) == overMutualTLS))
}

// transportOptions are those of an agency on the test's transport.
func transportOptions(t *testing.T) []Option {
	t.Helper()
	switch transportOf(t) {
	case overTLS:
		return []Option{WithTLS(TLS{CAFile: mutualTLS(t).CAFile})}
	case overMutualTLS:
		return []Option{WithTLS(mutualTLS(t))}
	default:
		return nil
	}
}

// mutualTLS is of the agency of most tests.
func mutualTLS(t *testing.T) TLS {
	t.Helper()
	files := authority(t).Files(t, longLived(certtest.Agency(testAgency)), authority(t))
	return TLS{CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key}
}

// socketOf is the client's socket, below TLS if there is any.
func socketOf(c *Client) *net.TCPConn {
	conn := c.conn.net
	if secured, ok := conn.(secureConn); ok {
		conn = secured.NetConn().(cutting).Conn
	}
	return conn.(*net.TCPConn)
}
