// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
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
	OptionChoice   = "choice"
	OptionCIDRs    = "cidrs"
	OptionEntries  = "entries"
)

var optionTypes = []string{OptionBool, OptionChoice, OptionCIDRs, OptionDuration, OptionEntries, OptionInt, OptionSize}

// parseValue turns what was written for an option into what the object's variable gets: a bool, or an int64 in the
// variable's unit (ns for durations, bytes for sizes).
func parseValue(optionType string, v any) (any, error) {
	switch optionType {
	case OptionBool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("want true or false, have %s", show(v))
	case OptionInt, OptionEntries:
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
	switch o.Type {
	case OptionChoice:
		return o.choice(v)
	case OptionCIDRs:
		return parseCIDRs(v)
	}
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

// choice returns the number of a name.
func (o Option) choice(v any) (any, error) {
	names := slices.Sorted(maps.Values(o.Values))
	text, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("want one of %s, have %s", strings.Join(names, ", "), show(v))
	}
	for number, name := range o.Values {
		if name == text {
			return number, nil
		}
	}
	return nil, Unknown("value", text, names)
}

// parseCIDRs reads names by range, and returns them as []CIDR, sorted.
func parseCIDRs(v any) (any, error) {
	if v == nil {
		return []CIDR(nil), nil
	}
	items, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf(`want a list of ranges with names, such as "- 10.0.0.0/8: office", have %s`, show(v))
	}
	seen := make(map[netip.Prefix]string)
	var (
		list []CIDR
		errs []error
	)
	for _, item := range items {
		text, name, err := namedRange(item)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		prefix, err := parsePrefix(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, taken := seen[prefix]; taken {
			errs = append(errs, fmt.Errorf("%s and %s are the same range", other, text))
			continue
		}
		seen[prefix] = text
		list = append(list, CIDR{Prefix: prefix, Name: name})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// namedRange takes a range and its name out of a mapping of one key. (Not all ranges in one mapping: the Collector takes the
// colons of an IPv6 address in a key of its configuration for a path.)
func namedRange(v any) (text, name string, err error) {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return "", "", fmt.Errorf(`want a range with a name, such as "10.0.0.0/8: office", have %s`, show(v))
	}
	for text, value := range m {
		switch name := value.(type) {
		case nil:
			return text, "", nil
		case string:
			return text, name, nil
		}
		return "", "", fmt.Errorf("want a name for %s, have %s", text, show(value))
	}
	return "", "", nil
}

// parsePrefix reads a range, or an address alone. Bits beyond the range's length are a mistake that would hide another.
func parsePrefix(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		return netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not a range of addresses, such as 10.0.0.0/8", text)
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits beyond its length: did you mean %s?", text, prefix.Masked())
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s: write an IPv4 range as one, such as 10.0.0.0/8", text)
	}
	return prefix, nil
}
