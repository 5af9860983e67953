package front

import (
	"context"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	gneterrors "github.com/panjf2000/gnet/v2/pkg/errors"
)

// An event loop that ends as it would by itself if it can't poll is noticed, and the others are ended.
func TestLoopEnds(t *testing.T) {
	l := serveLive(t, testConfig(), 2, listenLocal(t))
	end := gnet.RunnableFunc(func(context.Context) error { return gneterrors.ErrEngineShutdown })
	if err := l.front.loops[0].mail.el.Execute(context.Background(), end); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.front.Ended():
	case <-time.After(liveTimeout):
		t.Fatal("nobody notices")
	}
}
