package report

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Plot is a picture of a table: a curve over a number that the rows' names have, or a bar for each row.
type Plot struct {
	Name     string   // of the file: BENCH-NAME.svg
	Title    string   // what is seen, as a sentence would say it
	Table    string   // where it is from
	Measures []string // of it, one curve or one colour of bars each; of one unit
	Row      string   // the rows' names, with %d for the number, such as "%d order lines"; empty: bars, of the rows that have all measures
	X        string   // what the number is; it is drawn by its magnitude
	Y        string   // what the measures are, with their unit
	Steep    bool     // the measures are drawn by their magnitude too; else from 0 on
}

// colours are Okabe and Ito's, which everybody can tell apart.
var colours = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
}

const (
	plotWidth   = 16 * vg.Centimeter
	curveHeight = 8 * vg.Centimeter
	barHeight   = 14 // points
	barGap      = 8  // between rows
	margin      = 8  // points
)

// saveTo draws what was measured, in place of an older picture. A curve of one point, and bars of nothing, are left out.
func (p Plot) saveTo(dir string, r *Report) error {
	var rows []*Result
	for _, x := range r.Results {
		if x.Table == p.Table && slices.Contains(p.Measures, x.Measure) {
			rows = append(rows, x)
		}
	}
	picture, height, err := p.bars(rows)
	if p.Row != "" {
		picture, height, err = p.curves(rows)
	}
	if err != nil || picture == nil {
		return err
	}
	canvas := vgsvg.New(plotWidth, height)
	picture.Draw(draw.Crop(draw.New(canvas), margin, -2*margin, margin, -margin))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Text is laid out for Liberation Sans. Where it is not installed, fonts of the same widths are, but for the last.
	named := strings.ReplaceAll(svg.String(), "font-family:Liberation Sans", "font-family:Liberation Sans,Arial,Helvetica,sans-serif")
	return os.WriteFile(filepath.Join(dir, r.Bench+"-"+p.Name+".svg"), []byte(named), 0o644)
}

func (p Plot) empty() *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	picture := plot.New()
	picture.Title.Text, picture.Title.Padding = p.Title, vg.Points(10)
	picture.Y.Tick.Label.Font.Size, picture.X.Tick.Label.Font.Size = vg.Points(9), vg.Points(9)
	picture.X.Label.Padding, picture.Y.Label.Padding = vg.Points(4), vg.Points(8)
	picture.X.Label.Text, picture.Y.Label.Text = p.X, p.Y
	picture.Legend.Top, picture.Legend.Padding, picture.Legend.YOffs = true, vg.Points(8), vg.Points(4)
	return picture
}

// points are the medians of a measure, from the least number on, with how far the rounds lie from them.
type points struct {
	plotter.XYs
	plotter.YErrors
}

func (p Plot) points(rows []*Result, measure string) (of points) {
	for _, x := range slices.SortedFunc(slices.Values(rows), func(a, b *Result) int { return cmp.Compare(p.number(a), p.number(b)) }) {
		if n := p.number(x); n > 0 && x.Measure == measure {
			of.XYs = append(of.XYs, plotter.XY{X: n, Y: x.Median})
			of.YErrors = append(of.YErrors, struct{ Low, High float64 }{x.Median - slices.Min(x.Rounds), slices.Max(x.Rounds) - x.Median})
		}
	}
	return of
}

// number is the one in a row's name, or 0 if it is another's name.
func (p Plot) number(x *Result) float64 {
	before, after, _ := strings.Cut(p.Row, "%d")
	digits, begins := strings.CutPrefix(x.Row, before)
	digits, ends := strings.CutSuffix(digits, after)
	n, err := strconv.Atoi(digits)
	if !begins || !ends || err != nil {
		return 0
	}
	return float64(n)
}

func (p Plot) curves(rows []*Result) (*plot.Plot, vg.Length, error) {
	picture := p.empty()
	picture.X.Scale, picture.Legend.Left = plot.LogScale{}, true
	picture.Y.Tick.Marker = words{plot.DefaultTicks{}}
	picture.Add(plotter.NewGrid())
	var ticks plot.ConstantTicks
	for i, measure := range p.Measures {
		of := p.points(rows, measure)
		if len(of.XYs) < 2 {
			return nil, 0, nil
		}
		line, dots, err := plotter.NewLinePoints(of.XYs)
		if err != nil {
			return nil, 0, err
		}
		spread, err := plotter.NewYErrorBars(of)
		if err != nil {
			return nil, 0, err
		}
		colour := colours[i%len(colours)]
		line.Color, line.Width, dots.Color, dots.Shape, spread.Color = colour, vg.Points(1.5), colour, draw.CircleGlyph{}, colour
		picture.Add(line, dots, spread)
		if len(p.Measures) > 1 {
			picture.Legend.Add(measure, line, dots)
		}
		for _, at := range of.XYs {
			if i == 0 {
				ticks = append(ticks, plot.Tick{Value: at.X, Label: inWords(at.X)})
			}
		}
	}
	picture.X.Tick.Marker = ticks
	if p.Steep {
		picture.Y.Scale, picture.Y.Tick.Marker = plot.LogScale{}, words{plot.LogTicks{}}
		picture.Y.Min, picture.Y.Max = math.Pow(10, math.Floor(math.Log10(picture.Y.Min))), math.Pow(10, math.Ceil(math.Log10(picture.Y.Max)))
	} else {
		picture.Y.Min, picture.Y.Max = 0, picture.Y.Max*1.15
	}
	return picture, curveHeight, nil
}

func (p Plot) bars(rows []*Result) (*plot.Plot, vg.Length, error) {
	names := slices.DeleteFunc(distinct(rows, func(x *Result) string { return x.Row }), func(name string) bool {
		has := slices.DeleteFunc(slices.Clone(rows), func(x *Result) bool { return x.Row != name })
		return len(has) < len(p.Measures)
	})
	rows = slices.DeleteFunc(rows, func(x *Result) bool { return !slices.Contains(names, x.Row) })
	if len(names) == 0 {
		return nil, 0, nil
	}
	slices.Reverse(names) // the first stands at the top
	picture := p.empty()
	picture.X.Label.Text, picture.Y.Label.Text = p.Y, ""
	picture.X.Tick.Marker, picture.X.Min = words{plot.DefaultTicks{}}, 0
	for i, measure := range p.Measures {
		values := make(plotter.Values, len(names))
		for _, x := range rows {
			if x.Measure == measure {
				values[slices.Index(names, x.Row)] = x.Median
			}
		}
		bars, err := plotter.NewBarChart(values, vg.Points(barHeight))
		if err != nil {
			return nil, 0, err
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, colours[i%len(colours)], 0
		bars.Offset = vg.Points(barHeight * (float64(len(p.Measures)-1)/2 - float64(i)))
		picture.Add(bars)
		if len(p.Measures) > 1 {
			picture.Legend.Add(measure, bars)
		}
	}
	picture.X.Max *= 1.1
	picture.NominalY(names...)
	picture.Y.Padding = vg.Points(16) // names in a font that is wider do not reach into the bars
	if len(p.Measures) > 1 {
		picture.Y.Max++ // or the legend covers the first bars
	}
	return picture, vg.Points(float64(len(names)*(barHeight*len(p.Measures)+barGap)) + 90), nil
}

// words are ticks whose labels people read.
type words struct{ plot.Ticker }

// Ticks is called by gonum/plot.
func (w words) Ticks(least, most float64) []plot.Tick {
	ticks := w.Ticker.Ticks(least, most)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = inWords(ticks[i].Value)
		}
	}
	return ticks
}

// inWords writes 2500000 as 2.5 million, and 10000 as 10,000.
func inWords(n float64) string {
	if math.Abs(n) >= 1e6 {
		return strconv.FormatFloat(n/1e6, 'g', 4, 64) + " million"
	}
	if math.Abs(n) >= 1000 {
		return fmt.Sprintf("%d,%03d", int(n)/1000, int(math.Abs(n))%1000)
	}
	return strconv.FormatFloat(n, 'g', 4, 64)
}
