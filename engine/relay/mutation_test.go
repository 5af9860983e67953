package relay

import (
	"testing"

	"loteria/engine/mutationtest"
)

var mutations = []mutationtest.Mutation{
	{
		Name: "a follower takes any number of new keys",
		Changes: []mutationtest.Change{{
			File: "../channel/credentials.go",
			Old:  "useless != nil && !errors.Is(err, io.EOF)",
			New:  "useless != nil && n < 0",
		}},
		Test: "TestKeyUpdateFlood",
	},
	{
		Name: "an end behind many new keys is a flood",
		Changes: []mutationtest.Change{{
			File: "../channel/credentials.go",
			Old:  "useless != nil && !errors.Is(err, io.EOF)",
			New:  "useless != nil",
		}},
		Test: "TestKeyUpdateFlood",
	},
	{
		Name: "who comes as a follower becomes the leader is dropped",
		Changes: []mutationtest.Change{{
			File: "relay.go",
			Old:  "case err != nil && ctx.Err() != nil:\n",
			New:  "case ctx.Err() != nil:\n",
		}},
		Test: "TestComesAsItEnds/plain",
	},
	{
		Name: "who comes over TLS as a follower becomes the leader is dropped if handshakes wait",
		Changes: []mutationtest.Change{{
			File: "relay.go",
			Old:  "h = r.handshakes.Begin(r.life, conn)",
			New:  "return",
		}},
		Test: "TestComesAsItEnds/TLS",
	},
}

func TestMutationsApply(t *testing.T) { mutationtest.Apply(t, mutations) }

// The tests notice every mutation.
func TestMutations(t *testing.T) { mutationtest.Run(t, mutations, mutationtest.Simulation{}) }
