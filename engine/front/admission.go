package front

// admission counts connections and enforces their limits. Front.mu guards it.
type admission struct {
	max       int // connections at once
	perSource int // of one source address; 0 is no limit

	open    int
	sources map[Source]int // connections by address; empty if perSource is no limit
}

func newAdmission(most, perSource int) *admission {
	return &admission{max: most, perSource: perSource, sources: map[Source]int{}}
}

// enter counts a connection of that source. If it is one too many, enter returns the limit that it
// breaks, and doesn't count it.
func (a *admission) enter(from Source) (broken Limit, ok bool) {
	switch {
	case a.open >= a.max:
		return LimitConnections, false
	case a.perSource > 0 && a.sources[from] >= a.perSource:
		return LimitSource, false
	}
	a.open++
	if a.perSource > 0 {
		a.sources[from]++
	}
	return 0, true
}

// leave undoes an enter. It returns how many connections are left.
func (a *admission) leave(from Source) (open int) {
	a.open--
	if a.perSource > 0 {
		if a.sources[from]--; a.sources[from] == 0 {
			delete(a.sources, from)
		}
	}
	return a.open
}
