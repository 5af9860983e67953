package front

import "sync"

// admission counts connections, and says who may have one. It may be used from
// any goroutine.
type admission struct {
	max       int // connections at once
	perSource int // of one source address; 0 is no limit

	mu      sync.Mutex
	open    int
	sources map[Source]int // by address; nil without a limit
}

func newAdmission(most, perSource int) *admission {
	a := &admission{max: most, perSource: perSource}
	if perSource > 0 {
		a.sources = make(map[Source]int)
	}
	return a
}

// enter counts a connection from there, unless it is one too many: then it
// returns the limit that it breaks.
func (a *admission) enter(from Source) (broken Limit, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.open >= a.max:
		return LimitConnections, false
	case a.sources != nil && a.sources[from] >= a.perSource:
		return LimitSource, false
	}
	a.open++
	if a.sources != nil {
		a.sources[from]++
	}
	return 0, true
}

// leave takes back an enter. It returns how many are left.
func (a *admission) leave(from Source) (open int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if a.sources != nil {
		if a.sources[from]--; a.sources[from] == 0 {
			delete(a.sources, from)
		}
	}
	return a.open
}

func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}
