// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// figure is one line of the tables: a value of ours, what it is held against, and how they compare.
type figure struct {
	area, what string
	ours       float64
	// beside is what it is held against, as words, and theirs its value; both empty where there is only a bar.
	beside string
	theirs float64
	unit   string
	// ratio of the two where it is not simply ours/theirs: a median of paired ones.
	ratio float64
	// bar is the largest ratio that is wanted; 0 for none. limit is one of the value itself.
	bar, limit float64
}

func (f figure) ratioOf() float64 {
	if f.ratio == 0 && f.theirs > 0 {
		return f.ours / f.theirs
	}
	return f.ratio
}

// verdict is empty without a bar.
func (f figure) verdict() string {
	var held bool
	switch {
	case f.bar > 0:
		held = f.ratioOf() <= f.bar
	case f.limit > 0:
		held = f.ours <= f.limit
	default:
		return ""
	}
	if held {
		return "yes"
	}
	return "NO"
}

// cells are a figure's line.
func (f figure) cells() []string {
	theirs, ratio, bar := "", "", ""
	if f.beside != "" {
		theirs = fmt.Sprintf("%s (%s)", number(f.theirs), f.beside)
	}
	if v := f.ratioOf(); v > 0 {
		ratio = fmt.Sprintf("%.2f", v)
	}
	switch {
	case f.bar > 0:
		bar = fmt.Sprintf("ratio ≤ %.4g", f.bar)
	case f.limit > 0:
		bar = fmt.Sprintf("≤ %s %s", number(f.limit), f.unit)
	}
	return []string{f.area, f.what, number(f.ours) + " " + f.unit, theirs, ratio, bar, f.verdict()}
}

var heads = []string{"", "what", "ours", "beside", "ratio", "bar", "held"}

// number has three digits that count, and no more noise than that.
func number(v float64) string {
	switch {
	case v == 0 || v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func (r *run) add(f figure) { r.figures = append(r.figures, f) }

func (r *run) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "note:", note)
	r.notes = append(r.notes, note)
}

// finish prints the figures and, when asked to, writes them into the document.
func (r *run) finish(started time.Time) error {
	fmt.Printf("\n%s\n\n", where(started))
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for _, f := range r.figures {
		fmt.Fprintln(w, strings.Join(f.cells(), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range r.notes {
		fmt.Println("Note:", note)
	}
	fmt.Printf("\n%.0f seconds\n", time.Since(started).Seconds())
	if !r.record {
		return nil
	}
	return r.write(started)
}

// where tells what machine it was, as far as that matters to the figures.
func where(t time.Time) string {
	var u unix.Utsname
	_ = unix.Uname(&u) // which can not fail
	return fmt.Sprintf("%s, Linux %s, %s, %d CPUs, %s",
		t.UTC().Format(time.DateOnly), release(unix.ByteSliceToString(u.Release[:])), cmp.Or(processor(), runtime.GOARCH), runtime.NumCPU(), runtime.Version())
}

// release is a kernel's version without what its builder added.
func release(s string) string {
	version, _, _ := strings.Cut(s, "-")
	return version
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

const (
	beginMark = "<!-- figures: written by make bench -->"
	endMark   = "<!-- end of figures -->"
)

// write replaces what stands between the marks.
func (r *run) write(started time.Time) error {
	old, err := os.ReadFile(r.docs)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	head, rest, ok := strings.Cut(string(old), beginMark)
	_, tail, ended := strings.Cut(rest, endMark)
	if !ok || !ended {
		return fmt.Errorf("%s has no place for figures: %s ... %s", r.docs, beginMark, endMark)
	}
	text := head + beginMark + "\n" + where(started) + "\n\n" + r.markdown(rest) + endMark + tail
	if err := os.WriteFile(r.docs, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// markdown is the table. What the old one has of areas that were not measured now stays.
func (r *run) markdown(old string) string {
	measured := make(map[string]bool)
	for _, f := range r.figures {
		measured[f.area] = true
	}
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(heads)
	line(slices.Repeat([]string{"---"}, len(heads)))
	for row := range strings.Lines(old) {
		area, _, ok := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		if ok && strings.HasPrefix(row, "| ") && area != "---" && strings.TrimSpace(area) != "" && !measured[area] {
			b.WriteString(row)
		}
	}
	for _, f := range r.figures {
		line(f.cells())
	}
	b.WriteString("\n")
	for _, note := range r.notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	return b.String()
}

// median of a list, which it sorts.
func median(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return list[n/2]
	}
	return (list[n/2-1] + list[n/2]) / 2
}
