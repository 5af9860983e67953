package front

import "testing"

func TestAdmission(t *testing.T) {
	one, two, three := Source{1}, Source{2}, Source{3}
	type step struct {
		source Source
		leaves bool
		broken Limit // of one that enters
		ok     bool
	}
	enters := func(a Source) step { return step{source: a, ok: true} }
	refused := func(a Source, broken Limit) step { return step{source: a, broken: broken} }
	leaves := func(a Source) step { return step{source: a, leaves: true} }
	for _, test := range []struct {
		name            string
		most, perSource int
		steps           []step
	}{
		{"no limit of one source", 3, 0, []step{
			enters(one), enters(one), enters(one), refused(one, LimitConnections), refused(two, LimitConnections), leaves(one), enters(two),
		}},
		{"two of one source", 4, 2, []step{
			enters(one), enters(one), refused(one, LimitSource), enters(two), enters(three),
			refused(one, LimitConnections), leaves(three), refused(one, LimitSource), leaves(one), enters(one),
		}},
		{"one of one source", 2, 1, []step{enters(one), refused(one, LimitSource), leaves(one), enters(one), leaves(one), enters(two), enters(one)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAdmission(test.most, test.perSource)
			open := 0
			for i, s := range test.steps {
				if s.leaves {
					open--
					if left := a.leave(s.source); left != open {
						t.Fatalf("step %d: %d are left, want %d", i, left, open)
					}
					continue
				}
				broken, ok := a.enter(s.source)
				if ok != s.ok || !ok && broken != s.broken {
					t.Fatalf("step %d: %v enters: %v, limit %d; want %v, limit %d", i, s.source, ok, broken, s.ok, s.broken)
				}
				if ok {
					open++
				}
				if a.open != open {
					t.Fatalf("step %d: %d are open, want %d", i, a.open, open)
				}
			}
			if len(a.sources) > open {
				t.Errorf("%d sources are remembered with %d connections", len(a.sources), open)
			}
		})
	}
}
