// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample is a line of Prometheus' text format.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// scrape is what a Prometheus gets: samples, and the type of each metric.
type scrape struct {
	types   map[string]string
	samples []sample
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)$`)
	helpLine   = regexp.MustCompile(`^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) `)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)`)
)

// get scrapes a port. The error is that nobody answers; a page that is not valid ends the test.
func get(t *testing.T, port int) (scrape, error) {
	t.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return scrape{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	assert.Contains(t, response.Header.Get("Content-Type"), "text/plain")
	return parseExposition(t, string(body)), nil
}

// parseExposition reads the text format, version 0.0.4, and holds it to its rules.
func parseExposition(t *testing.T, text string) scrape {
	t.Helper()
	s := scrape{types: map[string]string{}}
	seen := map[string]bool{}
	if text == "" {
		return s
	}
	require.True(t, strings.HasSuffix(text, "\n"), "the last line has no end")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := typeLine.FindStringSubmatch(line); m != nil {
			require.NotContains(t, s.types, m[1], "two types")
			s.types[m[1]] = m[2]
			continue
		}
		if helpLine.MatchString(line) {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		require.False(t, seen[m[1]+m[2]], "a series twice: %s", line)
		seen[m[1]+m[2]] = true
		value, err := strconv.ParseFloat(m[3], 64)
		require.NoError(t, err, line)
		one := sample{name: m[1], labels: map[string]string{}, value: value}
		for rest := m[2]; rest != ""; {
			pair := labelPair.FindStringSubmatch(rest)
			require.NotNil(t, pair, line)
			require.NotContains(t, one.labels, pair[1], line)
			one.labels[pair[1]] = pair[2]
			rest = rest[len(pair[0]):]
		}
		s.samples = append(s.samples, one)
	}
	s.requireHistograms(t)
	return s
}

// requireHistograms holds the buckets of each histogram to be cumulative, and the last of them to be its count.
func (s scrape) requireHistograms(t *testing.T) {
	t.Helper()
	counts := map[string]float64{}
	for _, one := range s.samples {
		if name, ok := strings.CutSuffix(one.name, "_count"); ok && s.types[name] == "histogram" {
			counts[name+series(one.labels)] = one.value
		}
	}
	before, bound := map[string]float64{}, map[string]float64{}
	for _, one := range s.samples {
		name, ok := strings.CutSuffix(one.name, "_bucket")
		if !ok || s.types[name] != "histogram" {
			continue
		}
		le, err := strconv.ParseFloat(one.labels["le"], 64)
		require.NoError(t, err)
		key := name + series(one.labels)
		if last, ok := bound[key]; ok {
			require.Greater(t, le, last, key)
		}
		require.GreaterOrEqual(t, one.value, before[key], key)
		before[key], bound[key] = one.value, le
	}
	require.Equal(t, counts, before)
}

// series tells the series of one histogram apart.
func series(labels map[string]string) string {
	rest := make(map[string]string, len(labels))
	for k, v := range labels {
		if k != "le" {
			rest[k] = v
		}
	}
	return fmt.Sprint(rest) // which sorts them
}

// value is the one of a series that has these labels, among others.
func (s scrape) value(name string, labels map[string]string) (float64, bool) {
	for _, one := range s.samples {
		match := one.name == name
		for k, v := range labels {
			match = match && one.labels[k] == v
		}
		if match {
			return one.value, true
		}
	}
	return 0, false
}
