package main

import (
	"bytes"
	"image/color"
	"os"
	"path/filepath"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var colors = map[string]color.Color{
	floor: color.RGBA{0xc4, 0xc9, 0xd0, 0xff},
	ours:  color.RGBA{0x00, 0x7d, 0x9c, 0xff},
	peer:  color.RGBA{0xe8, 0xb4, 0x6c, 0xff},
}

var ink = color.RGBA{0x24, 0x29, 0x2f, 0xff}

// drawAll writes a chart for each group that was measured.
func drawAll(dir string, res *results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	for _, s := range sections {
		procs := 0
		if s.procs != nil {
			procs = 2
		}
		rows := res.group(s.group, procs)
		if len(rows) == 0 {
			continue
		}
		p, err := chart(s, rows)
		if err != nil {
			return err
		}
		if err := save(p, len(rows), filepath.Join(dir, s.file())); err != nil {
			return err
		}
	}
	return nil
}

func save(p *plot.Plot, bars int, path string) error {
	const margin = 12
	c := vgsvg.New(720, vg.Length(bars*20+90))
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

// chart draws a bar for each row, the fastest on top, with its figure at its end.
func chart(s section, rows []*row) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = s.title
	p.Title.TextStyle.Font.Size = 14
	p.Title.TextStyle.Font.Weight = xfont.WeightBold
	p.Title.TextStyle.Color = ink
	p.Title.Padding = 10
	most := 0.0
	names := make([]string, len(rows))
	legend := map[string]*plotter.BarChart{}
	for i, r := range rows {
		at := len(rows) - 1 - i
		bar, err := plotter.NewBarChart(plotter.Values{r.main()}, 13)
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin = true, float64(at)
		bar.Color, bar.LineStyle.Width = colors[r.kind], 0
		p.Add(bar)
		names[at], legend[r.kind] = r.caption(), bar
		most = max(most, r.main())
	}
	if err := addFigures(p, rows); err != nil {
		return nil, err
	}
	p.NominalY(names...)
	dress(p, s.unit(rows), most)
	for _, k := range []struct{ kind, name string }{{ours, "this library"}, {peer, "peers"}, {floor, "floors, by hand"}} {
		if bar := legend[k.kind]; bar != nil && len(legend) > 1 {
			p.Legend.Add(k.name, bar)
		}
	}
	return p, nil
}

// addFigures writes each row's figure behind its bar.
func addFigures(p *plot.Plot, rows []*row) error {
	figures := plotter.XYLabels{XYs: make(plotter.XYs, len(rows)), Labels: make([]string, len(rows))}
	for i, r := range rows {
		figures.XYs[i] = plotter.XY{X: r.main(), Y: float64(len(rows) - 1 - i)}
		figures.Labels[i] = " " + number(r.main())
	}
	labels, err := plotter.NewLabels(figures)
	if err != nil {
		return err
	}
	for i, r := range rows {
		style := &labels.TextStyle[i]
		style.Font = font.From(plot.DefaultFont, 10)
		style.YAlign = draw.YCenter
		style.Color = ink
		if r.kind == ours {
			style.Font.Weight = xfont.WeightBold
		}
	}
	p.Add(labels)
	return nil
}

func dress(p *plot.Plot, unit string, most float64) {
	p.X.Min, p.X.Max = 0, most*1.12 // room for the figures
	p.X.Label.Text = unit
	p.X.Label.TextStyle.Font.Size = 10
	p.X.Label.TextStyle.Color = ink
	p.X.Tick.Label.Font.Size = 9
	p.X.Tick.Label.Color = ink
	p.X.Tick.Marker = ticks{}
	p.X.Padding = 4
	p.Y.Tick.Label.Font.Size = 10
	p.Y.Tick.Label.Color = ink
	p.Y.Tick.LineStyle.Width = 0
	p.Y.LineStyle.Width = 0
	p.Legend.Top = true // where the bars are short
	p.Legend.TextStyle.Font.Size = 10
	p.Legend.TextStyle.Color = ink
	p.Legend.ThumbnailWidth = 13
	p.Legend.Padding = 4
}

func (s section) unit(rows []*row) string {
	switch {
	case rows[0].unit() == "B/instance":
		return "bytes"
	case s.procs != nil:
		return "ns per call, on 2 processors"
	}
	return "ns per call"
}

// caption is a row's name where there is no bold print: "client: X" makes
// "X (client)".
func (r *row) caption() string {
	name := r.name
	if f := form(name); f != "" {
		name = strings.TrimPrefix(name, f+": ") + " (" + f + ")"
	}
	if r.kind == ours {
		return "retry: " + name
	}
	return name
}

// ticks are the usual ones, with their figures written as everywhere.
type ticks struct{ plot.DefaultTicks }

func (t ticks) Ticks(low, high float64) []plot.Tick {
	all := t.DefaultTicks.Ticks(low, high)
	for i := range all {
		if all[i].Label != "" && all[i].Value >= 10 {
			all[i].Label = number(all[i].Value)
		} else if all[i].Label != "" {
			all[i].Label = plain(all[i].Value)
		}
	}
	return all
}
