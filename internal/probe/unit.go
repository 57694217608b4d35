// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"regexp"
	"strings"
)

// unitAtoms are the UCUM units that metrics are given in. Prefixes are left out on purpose: OpenTelemetry wants
// base units, and a metric's scale converts.
// https://opentelemetry.io/docs/specs/semconv/general/metrics/#instrument-units
var unitAtoms = map[string]bool{
	"1": true, "s": true, "By": true, "J": true, "W": true, "Hz": true, "Cel": true, "V": true, "A": true,
}

// unitHints say what to write instead of what is often written.
var unitHints = map[string]string{
	"":            `"1" for a number without a unit`,
	"ns":          `"s" with scale: 1e-9`,
	"us":          `"s" with scale: 1e-6`,
	"ms":          `"s" with scale: 1e-3`,
	"min":         `"s" with scale: 60`,
	"h":           `"s" with scale: 3600`,
	"sec":         `"s"`,
	"second":      `"s"`,
	"seconds":     `"s"`,
	"nanoseconds": `"s" with scale: 1e-9`,
	"b":           `"By"`,
	"by":          `"By"`,
	"byte":        `"By"`,
	"bytes":       `"By"`,
	"kby":         `"By" with scale: 1e3`,
	"kiby":        `"By" with scale: 1024`,
	"mby":         `"By" with scale: 1e6`,
	"miby":        `"By" with scale: 1048576`,
	"gby":         `"By" with scale: 1e9`,
	"giby":        `"By" with scale: 1073741824`,
	"%":           `"1" with scale: 0.01`,
	"percent":     `"1" with scale: 0.01`,
	"count":       `what is counted, such as "{packet}"`,
	"number":      `what is counted, such as "{packet}"`,
}

var annotation = regexp.MustCompile(`^\{[a-z][a-z0-9_]*\}$`)

// checkUnit holds a unit to the part of UCUM that OpenTelemetry's metrics use: a base unit, an annotation such as
// "{packet}" in the singular, or one of them per another ("By/s").
func checkUnit(unit string) error {
	parts := strings.Split(unit, "/")
	if len(parts) > 2 {
		return fmt.Errorf("unit %q: want one unit, or one per another", unit)
	}
	for _, part := range parts {
		word := strings.TrimSuffix(strings.TrimPrefix(part, "{"), "}")
		if unitAtoms[part] {
			continue
		}
		if hint, known := unitHints[strings.ToLower(word)]; known {
			return fmt.Errorf("unit %q: write %s", unit, hint)
		}
		switch {
		case !annotation.MatchString(part) && annotation.MatchString("{"+part+"}"):
			return fmt.Errorf("unit %q: not a unit; what is counted is written in braces, %q", unit, "{"+part+"}")
		case !annotation.MatchString(part):
			return fmt.Errorf("unit %q: not a unit", unit)
		case isPlural(word):
			return fmt.Errorf("unit %q: write the singular, %q", unit, "{"+strings.TrimSuffix(word, "s")+"}")
		}
	}
	return nil
}

// isPlural guesses: {packets} is, {process}, {bus} and {series} are not.
func isPlural(word string) bool {
	return strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss") && !strings.HasSuffix(word, "us") &&
		!strings.HasSuffix(word, "is") && !strings.HasSuffix(word, "series")
}
