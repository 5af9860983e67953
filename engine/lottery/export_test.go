package lottery

// Agencies is the number of expected agencies.
func (l *Lottery) Agencies() int { return len(l.agencies) }
