// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The types of an [Option].
const (
	OptionBool     = "bool"
	OptionInt      = "int"
	OptionDuration = "duration"
	OptionSize     = "size"
)

var optionTypes = []string{OptionBool, OptionDuration, OptionInt, OptionSize}

// parseValue turns what was written for an option into what the object's variable gets: a bool, or an int64 in the
// variable's unit (ns for durations, bytes for sizes).
func parseValue(optionType string, v any) (any, error) {
	switch optionType {
	case OptionBool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("want true or false, have %s", show(v))
	case OptionInt:
		return parseInt(v)
	case OptionDuration:
		return parseDuration(v)
	case OptionSize:
		return ParseSize(v)
	}
	return nil, Unknown("option type", optionType, optionTypes)
}

// parseInt accepts whole numbers of every type that a decoder of YAML makes.
func parseInt(v any) (int64, error) {
	switch i := v.(type) {
	case int:
		return int64(i), nil
	case int32:
		return int64(i), nil
	case int64:
		return i, nil
	case uint32:
		return int64(i), nil
	case uint64:
		if i <= math.MaxInt64 {
			return int64(i), nil
		}
	case float64:
		// 2^63 is the first float64 that is out of range.
		if i == math.Trunc(i) && i >= math.MinInt64 && i < math.MaxInt64 {
			return int64(i), nil
		}
	}
	return 0, fmt.Errorf("want an integer, have %s", show(v))
}

// parseDuration returns ns, not negative. A number without a unit is refused, unless it is 0.
func parseDuration(v any) (int64, error) {
	switch d := v.(type) {
	case time.Duration:
		if d >= 0 {
			return int64(d), nil
		}
		return 0, errors.New("a duration must not be negative")
	case string:
		parsed, err := time.ParseDuration(d)
		switch {
		case err != nil:
			return 0, fmt.Errorf("want a duration such as 10ms, have %q", d)
		case parsed < 0:
			return 0, errors.New("a duration must not be negative")
		}
		return int64(parsed), nil
	}
	i, err := parseInt(v)
	switch {
	case err != nil:
		return 0, fmt.Errorf("want a duration such as 10ms, have %s", show(v))
	case i != 0:
		return 0, fmt.Errorf("want a duration with a unit, such as %dms, have %s", i, show(v))
	}
	return 0, nil
}

// sizeUnits in bytes: those of the IEC are powers of 1024, those of the SI powers of 1000.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// ParseSize returns the bytes that a configuration means: a whole number that is not negative, or text with a unit such as
// "64KiB" or "1MB".
func ParseSize(v any) (int64, error) {
	text, isText := v.(string)
	if !isText {
		i, err := parseInt(v)
		switch {
		case err != nil:
			return 0, fmt.Errorf("want a size such as 64KiB, have %s", show(v))
		case i < 0:
			return 0, errors.New("a size must not be negative")
		}
		return i, nil
	}
	digits, unit := strings.TrimSpace(text), int64(1)
	for _, u := range sizeUnits {
		n := len(digits) - len(u.name)
		if n > 0 && strings.EqualFold(digits[n:], u.name) {
			digits, unit = strings.TrimSpace(digits[:n]), u.bytes
			break
		}
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	if errors.Is(err, strconv.ErrRange) || err == nil && number > uint64(math.MaxInt64/unit) {
		return 0, fmt.Errorf("the size %q is too large", text)
	}
	if err != nil {
		return 0, fmt.Errorf("want a size such as 64KiB, have %q", text)
	}
	return int64(number) * unit, nil
}

// show is a value for messages.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("the string %q", v)
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case int, int32, int64, uint32, uint64, float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	return fmt.Sprintf("a %T", v)
}

// value parses what was written for the option and holds it to the option's bounds.
func (o Option) value(v any) (any, error) {
	parsed, err := parseValue(o.Type, v)
	if err != nil {
		return nil, err
	}
	i, isInt := parsed.(int64)
	if !isInt {
		return parsed, nil
	}
	if o.Min != nil {
		if least, err := parseValue(o.Type, o.Min); err == nil && i < least.(int64) {
			return nil, fmt.Errorf("%v is less than the minimum, %v", v, o.Min)
		}
	}
	if o.Max != nil {
		if most, err := parseValue(o.Type, o.Max); err == nil && i > most.(int64) {
			return nil, fmt.Errorf("%v is more than the maximum, %v", v, o.Max)
		}
	}
	return parsed, nil
}
