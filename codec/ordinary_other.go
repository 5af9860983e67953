//go:build !amd64

package codec

// scan returns how many ordinary lines p begins with and where they end. It looks
// at ordinaryWindow bytes for each line, and takes none where there are fewer.
func (r *ordinaryRun) scan(p []byte) (n, count int) { return r.scanWords(p) }
