package lottery

// Agencies is how many agencies are expected.
func (l *Lottery) Agencies() int { return len(l.agencies) }
