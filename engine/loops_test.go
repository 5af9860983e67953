package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/panjf2000/gnet/v2"
	gneterrors "github.com/panjf2000/gnet/v2/pkg/errors"

	"loteria/codec"
)

// loopEnds makes an event loop end as it would by itself if it can't poll.
func (s *liveServer) loopEnds(t *testing.T) {
	t.Helper()
	end := gnet.RunnableFunc(func(context.Context) error { return gneterrors.ErrEngineShutdown })
	if err := s.loops[0].mail.el.Execute(context.Background(), end); err != nil {
		t.Fatal(err)
	}
}

// Event loops that end by themselves end the server, whatever else is going on.
func TestEndOfTheEngine(t *testing.T) {
	for _, test := range []struct {
		name string
		// play brings the server to where its engine ends.
		play func(t *testing.T, s *liveServer)
		// also what may come at the same time; clean: it may then be the reason.
		also   func(s *liveServer)
		clean  bool
		rounds int // what comes first differs
	}{
		{"nobody came", func(*testing.T, *liveServer) {}, func(*liveServer) {}, false, 1},
		{"agencies are missing", func(t *testing.T, s *liveServer) { s.dial(t).waits(1) }, func(*liveServer) {}, false, 1},
		// What the answer behind the winners says is that they count as served.
		{"everything is served", func(t *testing.T, s *liveServer) {
			one, two := s.dial(t).waits(1), s.dial(t).say("GET_WINNERS|2").hears("")
			one.hears("")
			for _, w := range []*wire{one, two} {
				w.say("").hears(codec.CodeEmptyBatch.String())
			}
		}, func(*liveServer) {}, true, 5},
		{"and it is told to stop", func(t *testing.T, s *liveServer) { s.dial(t).waits(1) }, func(s *liveServer) { s.stop() }, true, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range test.rounds {
				cfg := liveConfig(t)
				cfg.NoExport = true
				s := serveLive(t, cfg)
				test.play(t, s)
				s.loopEnds(t)
				test.also(s)
				if err := s.end(t); !errors.Is(err, ErrEngine) && (err != nil || !test.clean) {
					t.Fatalf("result %v", err)
				}
			}
		})
	}
}
