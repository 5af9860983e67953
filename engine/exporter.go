package engine

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"loteria/engine/history"
)

// exporter writes bets.csv and winners.csv once, in a goroutine of its own. After the draw the log's
// bets don't change any more. Any goroutine may call its methods.
type exporter struct {
	log     *zap.Logger
	dir     string
	scan    history.Log
	started atomic.Bool
	result  chan error // holds one
}

func newExporter(cfg Config, log *zap.Logger, scan history.Log) *exporter {
	e := &exporter{log: log, dir: cfg.DataDir, scan: scan, result: make(chan error, 1)}
	e.started.Store(cfg.NoExport) // then it never starts
	if cfg.NoExport {
		e.result <- nil
	}
	return e
}

// start begins the export, unless it has begun before. The draw has to be durable.
func (e *exporter) start() {
	if !e.started.CompareAndSwap(false, true) {
		return
	}
	go func() {
		begun := time.Now()
		err := history.ExportFiles(e.scan, e.dir)
		if err == nil {
			e.log.Info("export", zap.String("result", "success"),
				zap.String("dir", e.dir), zap.Duration("duracion", time.Since(begun)))
		}
		e.result <- err
	}()
}

// await waits for the end of an export that has begun, and returns its error. It is called once.
func (e *exporter) await() error {
	if !e.started.Load() {
		return nil
	}
	if err := <-e.result; err != nil {
		return fmt.Errorf("%w: export: %w: the bets are safe in the ledger; `loteria export` writes them out",
			ErrStorage, err)
	}
	return nil
}
