package compose

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	severalFile = "docker-compose-dev.yaml"
	several     = 3 // servers
)

// checkSeveral checks that all servers have the bets of all agencies, and the same winners.
func checkSeveral(t *testing.T, s *stack, root string) {
	t.Helper()
	winners := ""
	for _, name := range containers(several, 0) {
		s.server = name
		checkBets(t, s, root, 5)
		mine := s.export("--winners")
		if winners == "" {
			winners = mine
		}
		if n := len(rows(t, mine)); n != 10 || mine != winners {
			t.Errorf("%s has %d winners, want 10, the same as the others", name, n)
		}
	}
}

// checkOneDraw checks that the servers together have held one draw, over all their starts.
func checkOneDraw(t *testing.T) {
	t.Helper()
	draws := 0
	for _, name := range containers(several, 0) {
		draws += strings.Count(docker(t, "logs", name), "action: sorteo | result: success | apuestas: 78697 | cant_ganadores: 10")
	}
	if draws != 1 {
		t.Errorf("drawn %d times", draws)
	}
}

// Three servers hold a draw, and serve its agencies again after it. The second time they have
// other containers, everyone uses TLS, and agencies know only one name.
func testSeveralServers(t *testing.T, root string) {
	const tls = "docker-compose-tls.yaml"
	generateServers(t, root, severalFile, several, tls)
	s := newStack(t, root, severalFile)
	checkExits(t, s.up(), containers(several, 5))
	checkOneDraw(t)
	checkSeveral(t, s, root)

	s.settings = append(s.settings, "AGENCY_SERVER=server:12443")
	s.override = filepath.Join(root, tls)
	out := s.up()
	checkExits(t, out, append(containers(several, 5), "certs"))
	checkSeveral(t, s, root)
	if strings.Contains(out, "without TLS") {
		t.Errorf("the servers don't use their certificates\n%s", tail(out))
	}
	for id := 1; id <= 5; id++ {
		if line := fmt.Sprintf("action: autenticacion | result: success | agencia: %d\n", id); !strings.Contains(out, line) {
			t.Errorf("agency %d has not proved who it is: no %q\n%s", id, line, tail(out))
		}
	}
}

// The leader is killed in the middle of the draw. The others go on, and end. When everything is
// started again, the killed server gets what it has missed.
func testKilledLeader(t *testing.T, root string) {
	generateServers(t, root, severalFile, several)
	s := newStack(t, root, severalFile, "AGENCY_BATCH_BETS=30", "AGENCY_WINDOW=1")
	// Without agency 5 there is no draw, however long a kill takes.
	s.must(append([]string{"up", "--detach"}, containers(several, 4)...)...)
	awaitLog(t, "client1", "action: apuesta_enviada | result: success", 30)
	awaitLog(t, "server1", "action: lider | result: success", 1)
	id, term := leader(docker(t, "logs", "server1"))
	killed := fmt.Sprintf("server%d", id)
	docker(t, "kill", "--signal", "KILL", killed)
	for _, name := range containers(several, 0) {
		if name != killed {
			awaitIn(t, name, "that another server leads", func(log string) bool {
				next, later := leader(log)
				return next != id && later > term
			})
		}
	}
	s.must("up", "--detach", "--no-deps", "client5")
	for _, name := range containers(several, 5) {
		want := 0
		if name == killed {
			want = 137 // killed by signal 9
		}
		if code := exitCode(t, name); code != want {
			t.Errorf("%s ended with exit code %d, want %d\n%s", name, code, want, tail(docker(t, "logs", name)))
		}
	}

	checkExits(t, s.up(), containers(several, 5))
	checkOneDraw(t)
	checkSeveral(t, s, root)
}

var leads = regexp.MustCompile(`action: lider \| result: success \| servidor: (\d+) \| mandato: (\d+)`)

// leader is the last leader in a server's log, and its term; 0 if there is none.
func leader(log string) (id, term int) {
	all := leads.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return 0, 0
	}
	last := all[len(all)-1]
	id, _ = strconv.Atoi(last[1]) // these are digits
	term, _ = strconv.Atoi(last[2])
	return id, term
}
