package load

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The plot has four panels: throughput and latency, over window and agencies.
const (
	plotWidth  = 26 * vg.Centimeter
	plotHeight = 18 * vg.Centimeter
	plotMargin = 4 * vg.Millimeter
	plotSpace  = 1.3 // a logarithmic axis extends by this factor beyond its points
)

// percentiles are the lines of a latency panel.
var percentiles = []struct {
	name string
	of   func(Latency) float64
}{
	{"p50", func(l Latency) float64 { return l.P50US }},
	{"p90", func(l Latency) float64 { return l.P90US }},
	{"p99", func(l Latency) float64 { return l.P99US }},
	{"p99.9", func(l Latency) float64 { return l.P999US }},
}

// axis is the horizontal axis of a column of panels.
type axis struct {
	name   string
	fixed  string // the other parameter, which is the same for all points
	of     func(Point) int
	points []Point // they differ only in of
}

// axes sorts the points of a sweep. Points with the report's number of agencies belong to the
// window's axis, points with its window to the agencies' axis.
func (r Report) axes() []axis {
	window := axis{name: "window (batches)", fixed: fmt.Sprintf("%d agencies", r.Options.Agencies), of: func(p Point) int { return p.Window }}
	agencies := axis{name: "agencies", fixed: fmt.Sprintf("window %d", r.Options.Window), of: func(p Point) int { return p.Agencies }}
	for _, p := range r.Sweep {
		if p.Agencies == r.Options.Agencies {
			window.points = append(window.points, p)
		}
		if p.Window == r.Options.Window {
			agencies.points = append(agencies.points, p)
		}
	}
	list := []axis{window, agencies}
	for _, a := range list {
		slices.SortFunc(a.points, func(x, y Point) int { return a.of(x) - a.of(y) })
	}
	return list
}

// xys returns the points of a line over the axis.
func (a axis) xys(value func(Result) float64) plotter.XYs {
	var xys plotter.XYs
	for _, p := range a.points {
		xys = append(xys, plotter.XY{X: float64(a.of(p)), Y: value(p.Result)})
	}
	return xys
}

// marks puts a tick at every point's place, and nowhere else.
func (a axis) marks() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, p := range a.points {
		ticks = append(ticks, plot.Tick{Value: float64(a.of(p)), Label: strconv.Itoa(a.of(p))})
	}
	return ticks
}

func (a axis) panel(title, unit string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title + ", " + a.fixed
	p.X.Label.Text, p.Y.Label.Text = a.name, unit
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, a.marks()
	// A logarithmic axis needs a positive range, even for a single point.
	p.X.Min = float64(a.of(a.points[0])) / plotSpace
	p.X.Max = float64(a.of(a.points[len(a.points)-1])) * plotSpace
	p.Add(plotter.NewGrid())
	return p
}

func addLine(p *plot.Plot, n int, name string, xys plotter.XYs) error {
	line, dots, err := plotter.NewLinePoints(xys)
	if err != nil {
		return err
	}
	c := plotutil.Color(n)
	line.Color, line.Width = c, vg.Points(1.5)
	dots.Color, dots.Shape = c, plotutil.Shape(n)
	p.Add(line, dots)
	if name != "" {
		p.Legend.Add(name, line, dots)
	}
	return nil
}

func (a axis) throughput() (*plot.Plot, error) {
	p := a.panel("Throughput", "million bets/s")
	p.Y.Min = 0
	return p, addLine(p, 0, "", a.xys(func(r Result) float64 { return r.BetsPerSecond / 1e6 }))
}

func (a axis) latency() (*plot.Plot, error) {
	p := a.panel("ACK latency", "milliseconds")
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	low, high := math.Inf(1), 0.
	for n, one := range percentiles {
		// A logarithm needs a positive value, so show at least a microsecond.
		xys := a.xys(func(r Result) float64 { return max(one.of(r.ACK), 1) / 1e3 })
		if err := addLine(p, n, one.name, xys); err != nil {
			return nil, err
		}
		for _, xy := range xys {
			low, high = min(low, xy.Y), max(high, xy.Y)
		}
	}
	p.Y.Min, p.Y.Max = low/plotSpace, high*plotSpace
	return p, nil
}

// errNoPoints says that the report has no points for an axis.
var errNoPoints = errors.New("plot: the report has no sweep over window and agencies")

// WriteSVG draws the sweep, which must have at least one point for each axis.
func (r Report) WriteSVG(w io.Writer) error {
	grid := make([][]*plot.Plot, 2) // rows of panels, with a column for each axis
	for _, a := range r.axes() {
		if len(a.points) == 0 {
			return errNoPoints
		}
		for row, panel := range []func() (*plot.Plot, error){a.throughput, a.latency} {
			p, err := panel()
			if err != nil {
				return fmt.Errorf("plot: %w", err)
			}
			grid[row] = append(grid[row], p)
		}
	}
	canvas := vgsvg.New(plotWidth, plotHeight)
	tiles := draw.Tiles{
		Rows: len(grid), Cols: len(grid[0]),
		PadX: plotMargin, PadY: plotMargin,
		PadTop: plotMargin, PadBottom: plotMargin, PadLeft: plotMargin, PadRight: plotMargin,
	}
	for i, row := range plot.Align(grid, tiles, draw.New(canvas)) {
		for j, c := range row {
			grid[i][j].Draw(c)
		}
	}
	_, err := canvas.WriteTo(w)
	return err
}

const htmlPage = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>loteria bench</title>
<style>%s
main{display:block;max-width:70rem;margin:0 auto}
.panel{margin-bottom:1rem;overflow-x:auto}
.plot{background:#fff} /* the plot is black on transparent */
.plot svg{display:block;max-width:100%%;height:auto}
pre{margin:0;line-height:1.5}
td,th{text-align:right}
</style>
<header class="top"><h1><span class="ball" aria-hidden="true"></span>loteria bench</h1></header>
<main>
<section class="panel"><pre>%s</pre></section>
<section class="panel plot">%s</section>
<section class="panel"><table><thead><tr><th>agencies<th>window<th>bets/s<th>p50<th>p90<th>p99<th>p99.9</tr></thead>
<tbody>%s</tbody></table></section>
</main>
</html>
`

// WriteHTML writes a page with the summary, the plot and the sweep's figures. style is CSS that the
// page has inline, and may be empty; it is that of the board. The page loads nothing else. The sweep
// must have at least one point for each axis.
func (r Report) WriteHTML(w io.Writer, style string) error {
	var summary, svg, rows bytes.Buffer
	if err := r.WriteSummary(&summary); err != nil {
		return err
	}
	if err := r.WriteSVG(&svg); err != nil {
		return err
	}
	_, image, _ := bytes.Cut(svg.Bytes(), []byte("?>")) // a page may not contain an XML declaration
	for _, p := range r.Sweep {
		l := p.Result.ACK
		fmt.Fprintf(&rows, "<tr><td>%d<td>%d<td>%s<td>%s<td>%s<td>%s<td>%s</tr>\n", p.Agencies, p.Window,
			grouped(int64(p.Result.BetsPerSecond)), microseconds(l.P50US), microseconds(l.P90US), microseconds(l.P99US), microseconds(l.P999US))
	}
	_, err := fmt.Fprintf(w, htmlPage, style, html.EscapeString(summary.String()), image, rows.String())
	return err
}
