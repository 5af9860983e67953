package main

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/term"

	"loteria/agency/load"
)

// benchDisplayPeriod is the time between two updates of the display. Each update takes processor
// time from what is measured.
const benchDisplayPeriod = 200 * time.Millisecond

// benchDisplay shows the progress of a bench on a terminal. Without a terminal it shows nothing.
type benchDisplay struct {
	run string // the name of the next run; set before begin

	bars     progress.Writer // nil without a terminal
	current  atomic.Pointer[benchBar]
	finish   chan struct{}
	finished chan struct{}
}

// benchBar is the line of one run.
type benchBar struct {
	meter   *load.Meter
	tracker *progress.Tracker
	name    string
}

func newBenchDisplay(w io.Writer) *benchDisplay {
	d := &benchDisplay{}
	terminal, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return d
	}
	d.bars = progress.NewWriter()
	d.bars.SetOutputWriter(terminal)
	d.bars.SetAutoStop(false)
	d.bars.SetUpdateFrequency(benchDisplayPeriod)
	d.bars.SetTrackerPosition(progress.PositionRight)
	d.bars.Style().Visibility.Percentage = false // a run with --duration has no total
	d.finish, d.finished = make(chan struct{}), make(chan struct{})
	rendered := make(chan struct{})
	go func() {
		defer close(rendered)
		d.bars.Render()
	}()
	go func() {
		defer close(d.finished)
		ticks := time.NewTicker(benchDisplayPeriod)
		defer ticks.Stop()
		for running := true; running; {
			select {
			case <-ticks.C:
			case <-d.finish:
				running = false
			}
			if bar := d.current.Load(); bar != nil {
				bar.update()
			}
		}
		d.bars.Stop()
		<-rendered
	}()
	return d
}

func (b *benchBar) update() {
	b.tracker.UpdateMessage(b.name + ", " + b.meter.Phase())
	b.tracker.SetValue(b.meter.Bets())
}

// begin shows another run. The run counts in the meter that begin returns.
func (d *benchDisplay) begin(o load.Options) *load.Meter {
	meter := new(load.Meter)
	if d.bars == nil {
		return meter
	}
	if before := d.current.Load(); before != nil {
		before.tracker.MarkAsDone()
	}
	// Without a total the bar shows bets and their rate only.
	bar := &benchBar{
		meter: meter, name: d.run,
		tracker: &progress.Tracker{Message: d.run, Total: o.Bets},
	}
	d.bars.AppendTracker(bar.tracker)
	d.current.Store(bar)
	return meter
}

// stop ends the display. It is idempotent.
func (d *benchDisplay) stop() {
	if d.bars == nil {
		return
	}
	if bar := d.current.Load(); bar != nil {
		bar.tracker.MarkAsDone()
	}
	close(d.finish)
	<-d.finished
	d.bars = nil
}
