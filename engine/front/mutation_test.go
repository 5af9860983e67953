package front

import (
	"testing"

	"loteria/engine/mutationtest"
)

var mutations = []mutationtest.Mutation{
	{
		Name: "who an agency is doesn't come from its certificate",
		Changes: []mutationtest.Change{{
			File: "acceptor.go",
			Old:  "&secureSocket{channel: sealed}, sealed.Agency()",
			New:  "&secureSocket{channel: sealed}, 0",
		}},
		Test: "TestCertificateIsIdentity",
	},
	{
		Name: "a handshake that stands still keeps its place",
		Changes: []mutationtest.Change{{
			File: "../channel/handshakes.go",
			Old:  "handshakePatience - waited; wait > 0 {",
			New:  "handshakePatience - waited; wait > -time.Hour {",
		}},
		Test: "TestStalledHandshakes",
	},
	{
		Name: "what is sealed counts as sent",
		Changes: []mutationtest.Change{{
			File: "secure_socket.go",
			Old:  "		c.sealed = n\n",
			New:  "		sent, p = sent+n, p[n:]\n",
		}},
		Test: "TestSecureSocketTrickles",
	},
	{
		Name: "new keys are held for a peer that doesn't read them",
		Changes: []mutationtest.Change{{
			File: "../channel/channel.go",
			Old:  "if r.useless > uselessMax {",
			New:  "if r.useless > 1000*uselessMax {",
		}},
		Test: "TestKeyUpdateFlood",
	},
	{
		Name: "a cut passes for an end",
		Changes: []mutationtest.Change{{
			File: "session.go",
			Old:  "		return s.secure.channel.Ended()\n",
			New:  "		return errors.Is(end, io.EOF)\n",
		}},
		Test: "TestEndsOverTLS",
	},
	{
		Name: "an agency that was cut off at another server has ended",
		Changes: []mutationtest.Change{{
			File: "session.go",
			Old:  "(!ok || by.agency.Ended())",
			New:  "(!ok || by.agency != nil)",
		}},
		Test: "TestRelayedAgencyTakesItsWinners",
	},
	{
		Name: "what another server has taken of the winners, the agency has",
		Changes: []mutationtest.Change{{
			File: "socket.go",
			Old:  "left := c.sent - acknowledged; left > 0 {",
			New:  "left := c.sent - acknowledged; left > 1<<40 {",
		}},
		Test: "TestRelayedAgencyTakesItsWinners",
	},
}

// Every mutation still finds the code that it changes.
func TestMutationsApply(t *testing.T) { mutationtest.Apply(t, mutations) }

// The tests notice every mutation.
func TestMutations(t *testing.T) { mutationtest.Run(t, mutations, mutationtest.Simulation{}) }
