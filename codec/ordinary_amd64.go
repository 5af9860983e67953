package codec

import "golang.org/x/sys/cpu"

// hasVectors says whether this processor has the instructions of scanVectors.
var hasVectors = cpu.X86.HasAVX2 && cpu.X86.HasBMI1 && cpu.X86.HasBMI2

// scan returns how many ordinary lines p begins with and where they end. It looks
// at ordinaryWindow bytes for each line, and takes none where there are fewer.
func (r *ordinaryRun) scan(p []byte) (n, count int) {
	if hasVectors {
		return scanVectors(r, p)
	}
	return r.scanWords(p)
}

// scanVectors is scan in vectors of 32 bytes.
//
//go:noescape
func scanVectors(r *ordinaryRun, p []byte) (n, count int)
