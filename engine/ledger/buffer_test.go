package ledger

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
)

// A buffer has exactly the requested size, and starts where direct writes and huge pages need it.
func TestBuffer(t *testing.T) {
	for _, n := range []int{
		0, 1, BlockBytes, appendBytesMin,
		hugePageBytes - 1, hugePageBytes, hugePageBytes + 1, appendBytesMax,
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := Buffer(n)
			if len(b) != n || cap(b) != n {
				t.Fatalf("%d bytes with capacity %d", len(b), cap(b))
			}
			align := BlockBytes
			if n >= hugePageBytes {
				align = hugePageBytes
			}
			if over := reflect.ValueOf(b).Pointer() % uintptr(align); n > 0 && over != 0 {
				t.Errorf("it starts %d bytes after a multiple of %d", over, align)
			}
			if !bytes.Equal(b, make([]byte, n)) {
				t.Error("it is not zeroed")
			}
			copy(b, bytes.Repeat([]byte{1}, n))
			if !bytes.Equal(b, bytes.Repeat([]byte{1}, n)) {
				t.Error("it doesn't hold what was written to it")
			}
		})
	}
}
