// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

var errNotNumber = errors.New("the field is not a number of 1, 2, 4 or 8 bytes")

func readUint(raw []byte) uint64 {
	switch len(raw) {
	case 1:
		return uint64(raw[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(raw))
	case 4:
		return uint64(binary.NativeEndian.Uint32(raw))
	case 8:
		return binary.NativeEndian.Uint64(raw)
	}
	return 0
}

// readInt extends the sign.
func readInt(raw []byte) int64 {
	unused := 64 - 8*uint(len(raw))
	return int64(readUint(raw)<<unused) >> unused
}

// number is how a field is read as a number. An unsigned one of 8 bytes keeps its bits.
func number(f Field) (read func(raw []byte) int64, signed bool, err error) {
	switch f.Size {
	case 1, 2, 4, 8:
	default:
		return nil, false, errNotNumber
	}
	switch t := btf.UnderlyingType(f.Type).(type) {
	case *btf.Int:
		signed = t.Encoding == btf.Signed
	case *btf.Enum:
		signed = t.Signed
	case *btf.Pointer:
	default:
		return nil, false, errNotNumber
	}
	if signed {
		return readInt, true, nil
	}
	return func(raw []byte) int64 { return int64(readUint(raw)) }, false, nil
}

func buildUint(c *Column, f Field, o Options) error {
	if _, _, err := number(f); err != nil {
		return err
	}
	if o.Scale != 0 {
		c.setScaled(o.Scale, func(raw []byte) float64 { return float64(readUint(raw)) })
		return nil
	}
	c.decode = func(dst Sink, name string, raw []byte) {
		// An attribute's integer is signed. What does not fit is written out, rather than as a negative number.
		v := readUint(raw)
		if v > math.MaxInt64 {
			dst.PutStr(name, strconv.FormatUint(v, 10))
			return
		}
		dst.PutInt(name, int64(v))
	}
	return nil
}

func buildInt(c *Column, f Field, o Options) error {
	if _, _, err := number(f); err != nil {
		return err
	}
	if o.Scale != 0 {
		c.setScaled(o.Scale, func(raw []byte) float64 { return float64(readInt(raw)) })
		return nil
	}
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutInt(name, readInt(raw)) }
	return nil
}

// buildDuration is for a number of ns, which becomes seconds.
func buildDuration(c *Column, f Field, _ Options) error {
	_, signed, err := number(f)
	if err != nil {
		return err
	}
	read := func(raw []byte) float64 { return float64(readUint(raw)) }
	if signed {
		read = func(raw []byte) float64 { return float64(readInt(raw)) }
	}
	c.setScaled(1e-9, read)
	return nil
}

// setScaled makes the column a double, of which large numbers may share one.
func (c *Column) setScaled(scale float64, read func(raw []byte) float64) {
	c.identity = func(dst, raw []byte) []byte {
		return binary.NativeEndian.AppendUint64(dst, math.Float64bits(read(raw)*scale))
	}
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutDouble(name, read(raw)*scale) }
}

func buildBool(c *Column, f Field, _ Options) error {
	if _, _, err := number(f); err != nil {
		return err
	}
	c.identity = func(dst, raw []byte) []byte {
		if isZero(raw) {
			return append(dst, 0)
		}
		return append(dst, 1)
	}
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutBool(name, !isZero(raw)) }
	return nil
}

// errorOther stands for an error that is not known, as no error of the kernel does. Its name is the semantic conventions'.
const errorOther = 255

// buildErrno gives the symbol of an error number, given as the kernel returns it or negated.
func buildErrno(c *Column, f Field, _ Options) error {
	read, _, err := number(f)
	if err != nil {
		return err
	}
	if f.Size >= 4 {
		read = readInt // what was negated may lie in an unsigned field
	}
	c.setText(func(raw []byte) string {
		n := read(raw)
		if n < 0 {
			n = -n
		}
		if n == errorOther {
			return "_OTHER"
		}
		if s := unix.ErrnoName(unix.Errno(n)); s != "" {
			return s
		}
		return strconv.FormatInt(n, 10)
	})
	return nil
}

// buildSignal gives the symbol of a signal. Real-time signals have no fixed names: the C library keeps the first of them
// for itself.
func buildSignal(c *Column, f Field, _ Options) error {
	if _, _, err := number(f); err != nil {
		return err
	}
	c.decode = func(dst Sink, name string, raw []byte) {
		v := readUint(raw)
		s := unix.SignalName(unix.Signal(v))
		if s == "" {
			s = "SIG" + strconv.FormatUint(v, 10)
		}
		dst.PutStr(name, s)
	}
	return nil
}

// buildEnum names numbers; one without a name stands for itself.
func buildEnum(c *Column, f Field, o Options) error {
	read, signed, err := number(f)
	if err != nil {
		return err
	}
	values := o.Values
	e, isEnum := btf.UnderlyingType(f.Type).(*btf.Enum)
	if isEnum && values == nil {
		values = make(map[int64]string, len(e.Values))
		for _, v := range e.Values {
			values[int64(v.Value)] = v.Name
		}
	}
	if len(values) == 0 {
		return errors.New("the field is not an enum, and there are no values")
	}
	c.setText(func(raw []byte) string {
		v := read(raw)
		if s, ok := values[v]; ok {
			return s
		}
		return numeral(v, signed)
	})
	if distinct(values) {
		c.identity = nil
	}
	return nil
}

// buildFlags names the bits that are set, lowest first: "syn|ack". Bits without a name stand for themselves in hexadecimal.
func buildFlags(c *Column, f Field, o Options) error {
	if _, _, err := number(f); err != nil {
		return err
	}
	if len(o.Values) == 0 {
		return errors.New("there are no values")
	}
	bits := slices.Sorted(maps.Keys(o.Values))
	if bits[0] <= 0 {
		return errors.New("the values are not bits")
	}
	texts := make(map[uint64]string)
	c.setText(func(raw []byte) string {
		v := readUint(raw)
		text, ok := texts[v]
		if !ok {
			text = flagNames(v, bits, o.Values)
			if len(texts) < maxFlagTexts {
				texts[v] = text
			}
		}
		return text
	})
	return nil
}

// maxFlagTexts bounds the combinations of flags that are remembered: all that fit into a byte.
const maxFlagTexts = 256

func flagNames(v uint64, bits []int64, names map[int64]string) string {
	var list []string
	for _, bit := range bits {
		if v&uint64(bit) == uint64(bit) {
			list = append(list, names[bit])
			v &^= uint64(bit)
		}
	}
	if v != 0 {
		list = append(list, "0x"+strconv.FormatUint(v, 16))
	}
	return strings.Join(list, "|")
}

// distinct tells whether no two numbers share a name, and no name is another number's numeral.
func distinct(values map[int64]string) bool {
	seen := make(map[string]bool, len(values))
	for _, name := range values {
		_, err := strconv.ParseFloat(name, 64)
		if seen[name] || err == nil {
			return false
		}
		seen[name] = true
	}
	return true
}
