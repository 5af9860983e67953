package agency

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestSplitAddrs(t *testing.T) {
	many := func(n int) string {
		var addrs []string
		for i := range n {
			addrs = append(addrs, fmt.Sprintf("server%d:12345", i+1))
		}
		return strings.Join(addrs, ",")
	}
	for _, test := range []struct {
		list string
		want int    // addresses
		err  string // a part of the error; empty for none
	}{
		{"localhost:12345", 1, ""},
		{"no host:12345", 1, ""},
		{"a:1,b:1", 2, ""},
		{"a:1,a:2,[::1]:1", 3, ""},
		{many(AddrsMax), AddrsMax, ""},

		{many(AddrsMax + 1), 0, "17 addresses: 16 at most are legal"},
		{strings.Repeat(",", 1000), 0, "1001 addresses"},
		{"", 0, "missing port in address; write it as host:port"},
		{"localhost", 0, "missing port in address; write it as host:port"},
		{",", 0, `address 1 of "," is empty`},
		{"a:1,", 0, `address 2 of "a:1," is empty`},
		{"a:1,,b:1", 0, `address 2 of "a:1,,b:1" is empty`},
		{"a:1, b:1", 0, `address " b:1" has a space beside it`},
		{"a:1\n,b:1", 0, `address "a:1\n" has a space beside it`},
		{"a:1,b", 0, "address b: missing port in address"},
		{"a:1,b:1,a:1", 0, "address a:1 is there twice"},
	} {
		got, err := splitAddrs(test.list)
		if len(got) != test.want {
			t.Errorf("%q: %q, want %d addresses", test.list, got, test.want)
		}
		if test.err == "" && (err != nil || strings.Join(got, ",") != test.list) ||
			test.err != "" && (!errors.Is(err, ErrOption) || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: %q, %v; want %q", test.list, got, err, test.err)
		}
	}
}

// Each script is what becomes of the tries, and then the address of the next try after its pause.
func TestRoute(t *testing.T) {
	for _, test := range []struct{ name, addrs, script string }{
		{"one address", "a", "failed=> long a; failed=> long a; failed=> long a; progressed; failed=> long a"},
		{"rounds", "a b c", "failed=> none b; failed=> none c; failed=> long a; failed=> none b; failed=> none c; failed=> long a"},
		{"the one that broke comes last", "a b c", "failed=> none b; progressed; failed=> none c; failed=> none a; failed=> long b"},
		{"sent on", "a b c", "sentOn c=> none c; progressed; failed=> none a; failed=> none b; failed=> long c"},
		{"sent on out of the list", "a b", "sentOn x=> none x; progressed; failed=> none b; failed=> none a; failed=> long b"},
		{"the leader that was named is dead", "a b c", "sentOn x=> none x; failed=> none b; sentOn x=> none x; failed=> none c; failed=> long a"},
		{"sent on at the end of a round", "a b", "failed=> none b; sentOn a=> none a; failed=> long a"},
		{"in circles", "a b", "sentOn b=> none b; sentOn a=> none a; sentOn b=> none b; sentOn a=> none a; sentOn b=> long b; sentOn a=> none a"},
		{"to itself, one address", "a", "sentOn a=> none a; sentOn a=> none a; sentOn a=> none a; sentOn a=> none a; sentOn a=> long a"},
		{"nobody leads", "a b c", "sentOn=> short b; sentOn=> short c; sentOn=> long a; sentOn b=> none b; progressed; failed=> none c"},
		{"nobody leads, one address", "a", "sentOn=> long a; sentOn x=> none x; sentOn=> long a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := route{addrs: strings.Fields(test.addrs)}
			for step := range strings.SplitSeq(test.script, "; ") {
				input, want, _ := strings.Cut(step, "=> ")
				verb, leader, _ := strings.Cut(input, " ")
				var p pause
				switch verb {
				case "progressed":
					r.progressed()
					continue
				case "failed":
					p = r.failed()
				case "sentOn":
					p = r.sentOn(leader)
				default:
					t.Fatalf("unknown step %q", step)
				}
				if got := []string{"long", "short", "none"}[p] + " " + r.addr(); got != want {
					t.Fatalf("%s=> %s, want %s", input, got, want)
				}
			}
		})
	}
}

// Whatever servers say, there is a long pause after a bounded number of tries without progress, and
// every address of the list gets its turn among them.
func TestRouteRandom(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		all := []string{"a", "b", "c", "d", "e", "x", "y"}
		r := route{addrs: all[:1+rng.IntN(5)]}
		tries, untried := 0, map[string]int{}
		for range 200 {
			addr := r.addr()
			for _, a := range r.addrs {
				untried[a]++
			}
			untried[addr] = 0
			for a, n := range untried {
				if most := 2*len(r.addrs) + 2*hopsMax; n > most {
					t.Fatalf("seed %d: %s was not tried in %d tries", seed, a, n)
				}
			}
			if tries++; tries > len(r.addrs)+hopsMax+1 {
				t.Fatalf("seed %d: %d tries without progress or a long pause, of %d addresses", seed, tries, len(r.addrs))
			}
			if rng.IntN(8) == 0 {
				r.progressed()
				tries = 0
				clear(untried) // the turn may be elsewhere now
				if r.addr() != addr {
					t.Fatalf("seed %d: %s serves, and now it is %s", seed, addr, r.addr())
				}
			}
			leader, told := "", rng.IntN(2) == 0
			var p pause
			if told {
				if rng.IntN(3) > 0 {
					leader = all[rng.IntN(len(all))]
				}
				p = r.sentOn(leader)
			} else {
				p = r.failed()
			}
			switch {
			case p == pauseLong:
				tries = 0
			case p == pauseShort && (!told || leader != ""):
				t.Fatalf("seed %d: a short pause, and no server said that it knows no leader", seed)
			case p == pauseNone && told && r.addr() != leader:
				t.Fatalf("seed %d: sent on to %q, it goes to %s", seed, leader, r.addr())
			}
			if next := r.addr(); next != leader && !slices.Contains(r.addrs, next) {
				t.Fatalf("seed %d: nobody has named %s", seed, next)
			}
		}
	}
}
