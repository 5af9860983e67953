//go:build !amd64

package codec

// scan returns how many ordinary lines p begins with and where they end. It reads ordinaryWindow
// bytes for each line, and takes no line where fewer are left.
func (r *ordinaryRun) scan(p []byte) (n, count int) { return r.scanWords(p) }
