package front

import "sync"

// admission counts connections and enforces their limits. Any goroutine may use it.
type admission struct {
	max       int // connections at once
	perSource int // of one source address; 0 is no limit

	mu      sync.Mutex
	open    int
	sources map[Source]int // connections by address; nil if perSource is no limit
}

func newAdmission(most, perSource int) *admission {
	a := &admission{max: most, perSource: perSource}
	if perSource > 0 {
		a.sources = make(map[Source]int)
	}
	return a
}

// enter counts a connection of that source. If it is one too many, enter returns the limit that it
// breaks, and doesn't count it.
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

// leave undoes an enter. It returns how many connections are left.
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
