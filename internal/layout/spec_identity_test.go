// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"testing"
	"unicode/utf8"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// Two keys have one identity just when they make the same attributes. The keys are such as the kernel makes: valid UTF-8, bools of 0 and 1,
// error numbers of one sign, durations below 2^53 ns, path components that are not empty.
func TestSpecIdentityIsThatOfTheAttributes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	n16 := func() []byte { return native(uint16(r.IntN(120))) }
	n32 := func() []byte { return native(uint32(r.IntN(120))) }
	n64 := func() []byte {
		if r.IntN(4) == 0 {
			return native(math.MaxUint64 - uint64(r.IntN(3)))
		}
		return native(uint64(r.IntN(120)))
	}
	small := func() []byte { return native(uint64(r.IntN(120))) }
	letters := func(n int) func() []byte {
		return func() []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = "\x00\x00ab"[r.IntN(4)]
			}
			return b
		}
	}
	address := func() []byte {
		if r.IntN(2) == 0 {
			return append([]byte{10: 0xff, 11: 0xff}, letters(4)()...)
		}
		return append(make([]byte, 12), letters(4)()...)
	}
	path := func() []byte { return []byte([]string{"a\x00b\x00", "b\x00a\x00", "abc\x00", "abcd"}[r.IntN(4)]) }
	who := func() []byte {
		return append(process(r.Uint64N(2), r.Uint32N(2), "")[:16], chars(string(letters(3)()), 16)...)
	}
	cases := map[string]struct {
		t   btf.Type
		raw func() []byte
	}{
		"uint": {btftypes.U64, n64}, "int": {btftypes.S64, n64}, "duration": {btftypes.U64, small}, "time": {btftypes.U64, small},
		"bool": {btftypes.U8, func() []byte { return []byte{byte(r.IntN(2))} }},
		"enum": {btftypes.U32, n32}, "errno": {btftypes.U32, n32}, "signal": {btftypes.U32, n32}, "port": {btftypes.U16, n16},
		"ip": {octets(16), address}, "mac": {octets(6), letters(6)}, "hex": {octets(3), letters(3)}, "bytes": {octets(3), letters(3)},
		"string": {text(4), letters(4)}, "string_array": {text(4), letters(4)}, "path": {text(4), path},
		"process": {btftypes.ProcessKey, who}, "cgroup": {btftypes.U64, n64}, "ksym": {btftypes.U64, n64},
		"flags": {btftypes.U16, n16}, "transport": {btftypes.U16, n16}, "ethertype": {btftypes.U32, func() []byte { return native(uint32(1490 + r.IntN(560))) }},
		"device": {btftypes.U32, n32}, "ifindex": {btftypes.U32, n32}, "syscall": {btftypes.U32, n32}, "user": {btftypes.U32, n32},
	}
	for _, as := range layout.Decoders() {
		if as == "container" || as == layout.ContainerAddress {
			continue // a resource, and no attribute
		}
		t.Run(as, func(t *testing.T) {
			c, ok := cases[as]
			require.True(t, ok, "no case for the decoder")
			// An unnamed 7 is not to be taken for the one whose name is 7: both are attribute 7.
			column := columnOf(t, as, c.t, layout.Options{Values: map[int64]string{1: "same", 2: "same", 3: "other", 4: "7"}})
			same := 0
			for range 2000 {
				a, b := c.raw(), c.raw()
				var ofA, ofB sink
				require.NoError(t, column.Append(&ofA, a))
				require.NoError(t, column.Append(&ofB, b))
				attributes := fmt.Sprintf("%#v", ofA) == fmt.Sprintf("%#v", ofB)
				identity := bytes.Equal(column.AppendIdentity(nil, a), column.AppendIdentity(nil, b))
				require.Equal(t, attributes, identity, "%x and %x make %v and %v", a, b, ofA, ofB)
				if column.Exact() {
					require.Equal(t, bytes.Equal(a, b), identity)
				}
				if attributes {
					same++
				}
			}
			assert.Positive(t, same, "no two keys were the same: nothing is shown")
		})
	}
	// What stands before is kept.
	column := columnOf(t, "string", text(4), layout.Options{})
	assert.True(t, bytes.HasPrefix(column.AppendIdentity([]byte("before"), []byte("ab\x00c")), []byte("before")))
}

// FuzzColumn gives any bytes to every decoder, as records with and without blobs.
func FuzzColumn(f *testing.F) {
	var columns []layout.Column
	redact := []*regexp.Regexp{regexp.MustCompile(`a(.)?b`), regexp.MustCompile("c")}
	for _, as := range layout.Decoders() {
		for _, typ := range []btf.Type{
			btftypes.U8, btftypes.U16, btftypes.U32, btftypes.U64, btftypes.S8, btftypes.S32, btftypes.S64, btftypes.Blob,
			btftypes.ProcessKey, text(5), octets(6), octets(16),
		} {
			for _, omit := range []bool{false, true} {
				field, err := layout.FieldOf(typ, ".")
				require.NoError(f, err)
				c, err := layout.NewColumn("k", field, layout.Options{
					As: as, OmitZero: omit, Names: names{}, Redact: redact, Values: map[int64]string{1: "one"},
				})
				if err == nil && c.Entity == layout.Attribute {
					columns = append(columns, c)
				}
			}
		}
	}
	require.Greater(f, len(columns), 100)
	for _, seed := range []string{
		"", "\x00", "abc", "\xff\xfe\xfd\xfc\xfb\xfa", "\x04\x00\x05\x00a\x00b\xffc", "\x04\x00\xff\xff", "\xff\xff\xff\xff12345678", "\x04\x00\x01\x00\x00",
	} {
		f.Add([]byte(seed))
		f.Add(append([]byte(seed), make([]byte, 40)...))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		for i := range columns {
			c := &columns[i]
			var got sink
			err := c.Append(&got, record)
			if len(record) < c.Size && err == nil {
				t.Fatalf("column of %d bytes in a record of %d", c.Size, len(record))
			}
			if err != nil {
				if len(got) > 0 {
					t.Fatal("an attribute in spite of the error")
				}
				continue
			}
			c.AppendIdentity(nil, record)
			for _, a := range got {
				var list []string
				switch v := a.value.(type) {
				case string:
					list = []string{v}
				case []string:
					list = v
				}
				for _, s := range list {
					if !utf8.ValidString(s) {
						t.Fatalf("%q is no UTF-8", s)
					}
				}
			}
		}
	})
}
