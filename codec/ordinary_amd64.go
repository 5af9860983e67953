package codec

import "golang.org/x/sys/cpu"

// hasVectors is true if this processor has the instructions that scanVectors uses.
var hasVectors = cpu.X86.HasAVX2 && cpu.X86.HasBMI1 && cpu.X86.HasBMI2

// scan returns how many ordinary lines p begins with and where they end. It reads ordinaryWindow
// bytes for each line, and takes no line where fewer are left.
func (r *ordinaryRun) scan(p []byte) (n, count int) {
	if hasVectors {
		return scanVectors(r, p)
	}
	return r.scanWords(p)
}

// scanVectors is scan with vectors of 32 bytes.
//
//go:noescape
func scanVectors(r *ordinaryRun, p []byte) (n, count int)
