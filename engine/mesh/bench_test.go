package mesh

import (
	"fmt"
	"runtime"
	"testing"

	"go.uber.org/zap"

	"loteria/codec/certtest"
)

// BenchmarkSend measures a message of one server to another until its answer comes: small ones are as
// many as a quorum needs, large ones are groups of bets, in parts.
//
//	go test -run '^$' -bench Send ./engine/mesh
func BenchmarkSend(b *testing.B) {
	authority := certtest.New(b)
	addrs := addresses()
	delete(addrs, 3)
	for _, secure := range []bool{false, true} {
		for _, size := range []int{100, 10_000, 1 << 20} {
			b.Run(fmt.Sprintf("TLS=%t/bytes=%d", secure, size), func(b *testing.B) {
				answers := make(chan struct{})
				var meshes [3]*Mesh
				for id := uint64(1); id <= 2; id++ {
					settings := Settings{ID: id, Servers: addrs, Addr: addrs[id], Mesh: [16]byte{7}}
					if secure {
						settings.Identity = open(b, authority, certtest.Server(id))
					}
					m, err := Listen(settings, zap.NewNop(), func(from uint64, _ []byte) {
						if id == 1 {
							answers <- struct{}{}
						} else {
							meshes[id].Send(from, true, []byte("ACK"))
						}
					})
					if err != nil {
						b.Fatal(err)
					}
					defer m.Close()
					meshes[id] = m
				}
				for !meshes[1].Connected(2) || !meshes[2].Connected(1) {
					runtime.Gosched()
				}
				head, data := make([]byte, 50), make([]byte, size-50)
				b.SetBytes(int64(size))
				for b.Loop() {
					if !meshes[1].Send(2, false, head, data) {
						b.Fatal("dropped")
					}
					<-answers
				}
			})
		}
	}
}
