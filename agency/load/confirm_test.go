package load

import (
	"errors"
	"strings"
	"testing"
	"time"

	"loteria/codec"
)

// helloLoad has agencies that say HELLO, and some that only wait.
var helloLoad = Options{Agencies: 3, Waiting: 2, Bets: 30, Window: 4, BatchBytes: 8192, BatchBets: 10}

// confirmed runs helloLoad against a server that answers receipts with receipt.
func confirmed(t *testing.T, receipt func(drawConn)) (Result, *drawServer, error) {
	t.Helper()
	o := helloLoad
	s := startDrawServer(t, o.Agencies+o.Waiting, atTheDraw, func(_ codec.Agency, conn drawConn, right []byte) { write(conn, right) })
	s.receipt = receipt
	r, err := Run(t.Context(), o, Target{Addr: s.listener.Addr().String()}, nil)
	s.end()
	return r, s, err
}

// Every agency that has said HELLO confirms its winners once, and no other agency does. No figure
// includes the time that the server takes for receipts.
func TestConfirm(t *testing.T) {
	// On a busy machine the load itself is slow. With a pause that is long enough, it still shows
	// whether a figure includes the pause.
	const pauseMax = 5 * time.Second
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		r, s, err := confirmed(t, func(c drawConn) {
			<-time.After(pause)
			write(c, codec.AppendAck(nil))
		})
		if err != nil {
			t.Fatal(err)
		}
		for id := codec.Agency(1); int(id) <= helloLoad.Agencies+helloLoad.Waiting; id++ {
			want := 0
			if int(id) <= helloLoad.Agencies {
				want = 1
			}
			if s.receipts[id] != want {
				t.Errorf("agency %d confirmed %d times, want %d", id, s.receipts[id], want)
			}
		}
		if r.ACK.Count != r.Batches {
			t.Errorf("%d latencies of %d batches", r.ACK.Count, r.Batches)
		}
		longest := time.Duration(max(r.Draw.Seconds, r.Seconds, r.ACK.MaxUS/1e6) * float64(time.Second))
		if longest < pause {
			return
		}
		if pause > pauseMax {
			t.Fatalf("something took %v, a receipt %v: %+v", longest, pause, r)
		}
	}
}

func TestConfirmRefused(t *testing.T) {
	_, _, err := confirmed(t, func(c drawConn) { write(c, codec.AppendError(nil, codec.CodeLotteryHasntEnded, "")) })
	if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), "RECEIVED of agency") || !strings.Contains(err.Error(), "ERROR_LOTTERY_HASNT_ENDED") {
		t.Errorf("got %v", err)
	}
	_, _, err = confirmed(t, func(c drawConn) { _ = c.Close() })
	if err == nil || !strings.Contains(err.Error(), "connection of agency") {
		t.Errorf("got %v", err)
	}
}
