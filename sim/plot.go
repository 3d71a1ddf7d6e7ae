package main

import (
	"bytes"
	"image/color"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colours that can be distinguished in print and by the colour-blind (Okabe, Ito).
var colours = []color.Color{
	color.RGBA{213, 94, 0, 255}, color.RGBA{230, 159, 0, 255}, color.RGBA{86, 180, 233, 255},
	color.RGBA{0, 158, 115, 255}, color.RGBA{0, 114, 178, 255}, color.RGBA{204, 121, 167, 255},
}

func (f *findings) plot(folder string) error {
	for name, draw := range map[string]func() (*plot.Plot, error){
		"outage.svg": f.plotOutage, "contention.svg": f.plotContention, "throttled.svg": f.plotThrottled,
		"pacing.svg": f.plotPacing,
	} {
		p, err := draw()
		if err != nil {
			return err
		}
		if err := save(p, filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

// save writes the picture with some white around it, so that labels at its edge
// are whole.
func save(p *plot.Plot, path string) error {
	const margin = 14
	c := vgsvg.New(9*vg.Inch, 4.5*vg.Inch)
	canvas := draw.New(c)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	p.Draw(draw.Crop(canvas, margin, -margin, margin, -margin))
	var svg bytes.Buffer
	if _, err := c.WriteTo(&svg); err != nil {
		return err
	}
	// Not every reader has the font; these have letters of the same width.
	const family = "font-family:Liberation Sans"
	text := bytes.ReplaceAll(svg.Bytes(), []byte(family), []byte(family+",Arial,Helvetica,sans-serif"))
	return os.WriteFile(path, text, 0o644)
}

func ticks(from, to, step int) (ticks plot.ConstantTicks) {
	for v := from; v <= to; v += step {
		ticks = append(ticks, plot.Tick{Value: float64(v), Label: strconv.Itoa(v)})
	}
	return ticks
}

func newPlot(title, x, y string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font.Size = 15
	p.Title.Padding = 10
	p.Legend.Top = true
	p.Legend.Padding = 3
	p.Legend.ThumbnailWidth = 24
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{235}, color.Gray{235}
	p.Add(grid)
	return p
}

func addLine(p *plot.Plot, name string, points plotter.XYs, c color.Color) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = c, vg.Points(2)
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

func (f *findings) plotOutage() (*plot.Plot, error) {
	p := newPlot("A server is down for 60 s: what reaches it, then and after", "seconds since the outage began", "calls per second")
	limit := plotter.NewFunction(func(float64) float64 { return capacity })
	limit.Dashes, limit.Color = []vg.Length{vg.Points(5), vg.Points(4)}, color.Gray{90}
	p.Add(limit)
	p.Legend.Add("the server's capacity", limit)
	for i, s := range []struct{ policy, name string }{
		{"fixed 1s, 5 retries", "5 retries, 1 s apart: never recovers"},
		{"Config{}: ±20 %", "5 retries with backoff: never recovers"},
		{"no retry", "no retry"},
		{"budget 10 %, burst 1", "Budget of 10 %"},
		{"budget 10 % + breaker 5s", "Budget and CircuitBreaker"},
	} {
		var points plotter.XYs
		for second, n := range perSecond(find(f.open, s.policy).trace.attempts) {
			if second >= 10 && second < 150 {
				points = append(points, plotter.XY{X: float64(second - 30), Y: n})
			}
		}
		if err := addLine(p, s.name, points, colours[i]); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -20, 120, 0, 1900
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks(-20, 120, 20), ticks(0, 1800, 300)
	p.Legend.Left = true
	return p, nil
}

func (f *findings) plotContention() (*plot.Plot, error) {
	p := newPlot("Contention for one row: the price of jitter", "clients", "writes until all have succeeded")
	for i, s := range occStrategies() {
		var points plotter.XYs
		for j, n := range f.occSizes {
			points = append(points, plotter.XY{X: float64(n), Y: f.occ[i][j].calls})
		}
		if err := addLine(p, s.name, points, colours[i]); err != nil {
			return nil, err
		}
	}
	p.Legend.Left = true
	return p, nil
}

func (f *findings) plotThrottled() (*plot.Plot, error) {
	p := newPlot("An API that answers 429: refusals per 1,000 jobs", "", "429s per 1,000 jobs")
	var names []string
	for _, s := range throttledServers() {
		names = append(names, s.name)
	}
	width := vg.Points(13)
	shown := []int{0, 2, 3, 4}
	for k, i := range shown {
		var values plotter.Values
		for j := range names {
			values = append(values, f.throttled[j][i].refused)
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return nil, err
		}
		bars.Color, bars.LineStyle.Width = colours[[]int{0, 2, 3, 4}[k]], 0
		bars.Offset = width * vg.Length(2*k-len(shown)+1) / 2
		p.Add(bars)
		p.Legend.Add(throttledPolicies()[i].name, bars)
	}
	p.NominalX(names...)
	p.Y.Tick.Marker = ticks(0, 3000, 500)
	p.X.Tick.Label.Font.Size = 8
	p.Legend.Left = true
	return p, nil
}
