package main

import (
	"fmt"
	"image/color"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/retryutils/retry"
)

// pacing is what the gate's pace reaches, by situation, over ten seeds.
type pacing struct {
	reached []paced
	curves  [][]throttledOutcome // by curveServers and shares: the median of the seeds
	doubled []float64            // seconds until a limit that doubles at a random moment is used
}

// paced is a situation, and what came of it in order.
type paced struct {
	name, goal    string
	time, refused []float64
}

const paceSeeds = 10

var shares = []float64{0.7, 0.75, 0.8, 0.85, 0.88, 0.91, 0.94, 0.97, 1}

// curveServers are those whose curve is drawn, by their index.
var curveServers = []int{7, 0, 3, 4}

func (f *findings) pacing(t *testing.T) {
	p := &f.paced
	for _, s := range paceSituations() {
		var outcomes []throttledOutcome
		each(t, &outcomes, seeds(), s.run)
		row := paced{name: s.name, goal: s.goal, time: make([]float64, paceSeeds), refused: make([]float64, paceSeeds)}
		p.reached = append(p.reached, row)
		t.Cleanup(func() { // all worlds are done
			for i, o := range outcomes {
				row.time[i], row.refused[i] = o.makespan, o.refused
			}
			slices.Sort(row.time)
			slices.Sort(row.refused)
		})
	}
	p.curves = make([][]throttledOutcome, len(curveServers))
	for i, server := range curveServers {
		each(t, &p.curves[i], shares, func(share float64) throttledOutcome {
			return medianOf(func(seed uint64) throttledOutcome { return throttledServers()[server].run(atShare(share), seed) })
		})
	}
	each(t, &p.doubled, seeds(), untilDoubled)
	t.Cleanup(func() { slices.Sort(p.doubled) })
}

func seeds() (all []uint64) {
	for i := range uint64(paceSeeds) {
		all = append(all, i)
	}
	return all
}

func medianOf(run func(seed uint64) throttledOutcome) throttledOutcome {
	var time, refused []float64
	for _, seed := range seeds() {
		o := run(seed)
		time, refused = append(time, o.makespan), append(refused, o.refused)
	}
	slices.Sort(time)
	slices.Sort(refused)
	return throttledOutcome{makespan: time[paceSeeds/2], refused: refused[paceSeeds/2]}
}

type paceSituation struct {
	name, goal string
	run        func(seed uint64) throttledOutcome
}

// paceSituations are those of 2,000 jobs at nginx, and the servers with windows.
func paceSituations() []paceSituation {
	all := []paceSituation{
		{"nginx, 100/s, burst 20; 1 x 50", "1.15; 15", atNginx(20, 0)},
		{"nginx, 100/s, no burst; 1 x 50", "", atNginx(0, 0)},
		{"nginx, burst 20, Limiter of 110/s; 1 x 50", "", atNginx(20, 110)},
	}
	goals := []string{"1.2; 25", "", "1.2; 25", "1.2; 25", "1.25; 100", "1.25; 100", "", "1.2; 25"}
	for i, s := range throttledServers() {
		name := s.name
		if s.processes > 1 {
			name += ", joined"
		}
		all = append(all, paceSituation{name, goals[i], func(seed uint64) throttledOutcome {
			return s.run(throttledPolicies()[3], seed)
		}})
	}
	return all
}

func atNginx(burst, limiter float64) func(seed uint64) throttledOutcome {
	return func(seed uint64) throttledOutcome {
		w := newWorld()
		s := &bucketServer{world: w, rate: 100, burst: burst, retryAfter: time.Second}
		g := newGroup(w, 50, 0)
		if limiter > 0 {
			g.cfg.Limiter = newPace(w, limiter)
		}
		drive(w, s, []*group{g}, 2000, 0, seed)
		return throttledOutcome{refused: float64(s.refused) / 2, makespan: w.since() / ((2000 - burst - 1) / 100)}
	}
}

// atShare is the joined gates with a Limiter at a share of the known rate: what
// could be had if the pace were known from the beginning.
func atShare(share float64) throttledPolicy {
	return throttledPolicy{fmt.Sprint(share), func(e *env, t throttled) []retry.Config {
		cfgs := throttledPolicies()[3].fleet(e, t)
		for i := range cfgs {
			cfgs[i].Limiter = newPace(e.world, t.share(share))
		}
		return cfgs
	}}
}

// untilDoubled is how long it takes until nine tenths of a limit are used that
// doubles at some moment.
func untilDoubled(seed uint64) float64 {
	w := newWorld()
	s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: time.Second, latency: 100 * time.Millisecond}
	g := newGroup(w, 50, 0)
	from := 30 + 3*float64(seed)
	w.after(seconds(from), func() { s.rate = 200 })
	drive(w, s, []*group{g}, 0, from+60, seed)
	for at := from; at < from+60; at++ {
		if g.rateIn(interval{at, at + 1}) >= 180 {
			return at - from
		}
	}
	return 60
}

func (f *findings) pacingTable(p func(string, ...any)) {
	p("| situation | time | worst | refused per 1,000 | worst | goal |\n| --- | --- | --- | --- | --- | --- |")
	for _, r := range f.paced.reached {
		const middle, last = paceSeeds / 2, paceSeeds - 1
		p("| %s | %.2f | %.2f | %.0f | %.0f | %s |", r.name, r.time[middle], r.time[last], r.refused[middle], r.refused[last], r.goal)
	}
}

func (f *findings) plotPacing() (*plot.Plot, error) {
	p := newPlot("The price of a margin: a Limiter at a share of the rate, known from the beginning", "share of the server's rate", "time, in multiples of the least")
	for k, server := range curveServers {
		var points plotter.XYs
		for i, share := range shares {
			points = append(points, plotter.XY{X: share, Y: f.paced.curves[k][i].makespan})
		}
		c := colours[[]int{4, 0, 3, 1}[k]]
		if err := addLine(p, throttledServers()[server].name, points, c); err != nil {
			return nil, err
		}
		learned := f.paced.reached[3+server]
		if err := addDot(p, plotter.XY{X: 1.02 + 0.01*float64(k), Y: learned.time[paceSeeds/2]}, c); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0.68, 1.07, 1, 1.8
	return p, nil
}

// addDot shows what the gate reached beside the curve.
func addDot(p *plot.Plot, at plotter.XY, c color.Color) error {
	dot, err := plotter.NewScatter(plotter.XYs{at})
	if err != nil {
		return err
	}
	dot.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(4), Shape: draw.CircleGlyph{}}
	p.Add(dot)
	return nil
}
