// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// attribute is what a sink was given.
type attribute struct {
	key   string
	value any
}

// sink copies what it is given: neither bytes nor a list may be kept.
type sink []attribute

func (s *sink) PutStr(k, v string)            { *s = append(*s, attribute{k, strings.Clone(v)}) }
func (s *sink) PutInt(k string, v int64)      { *s = append(*s, attribute{k, v}) }
func (s *sink) PutDouble(k string, v float64) { *s = append(*s, attribute{k, v}) }
func (s *sink) PutBool(k string, v bool)      { *s = append(*s, attribute{k, v}) }
func (s *sink) PutBytes(k string, v []byte)   { *s = append(*s, attribute{k, append([]byte{}, v...)}) }

func (s *sink) PutStrs(k string, v []string) { *s = append(*s, attribute{k, append([]string{}, v...)}) }

// names knows the numbers below 100, each two of them by one name.
type names struct{}

func known(kind string, v uint64) string {
	if v < 100 {
		return fmt.Sprint(kind, v/2)
	}
	return ""
}

func (names) CgroupPath(id uint64) string { return known("/cgroup", id) }
func (names) Device(dev uint32) string    { return known("dev", uint64(dev)) }
func (names) Owner(a netip.Addr) uint64 {
	if a == netip.MustParseAddr("10.0.0.1") {
		return 1
	}
	return 0
}

func (names) Interface(namespace, index uint32) string {
	name := known("eth", uint64(index))
	if name != "" && namespace != 0 {
		name += fmt.Sprint("@", namespace)
	}
	return name
}
func (names) Symbol(a uint64) string     { return known("symbol", a) }
func (names) Syscall(n int64) string     { return known("call", uint64(n)) }
func (names) User(uid uint32) string     { return known("user", uint64(uid)) }
func (names) Wall(boot uint64) time.Time { return time.Unix(1_700_000_000, 0).Add(time.Duration(boot)) }

func native(v any) []byte {
	b, err := binary.Append(nil, binary.NativeEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

func columnOf(t testing.TB, as string, typ btf.Type, o layout.Options) layout.Column {
	t.Helper()
	f, err := layout.FieldOf(typ, ".")
	require.NoError(t, err)
	o.As, o.Names = as, names{}
	c, err := layout.NewColumn("k", f, o)
	require.NoError(t, err)
	return c
}

// chars is a text in a field of n bytes.
func chars(s string, n int) []byte {
	b := make([]byte, n)
	copy(b, s)
	return b
}

// blob is a record that is a struct blob with its bytes behind it.
func blob(s string) []byte {
	return append(native([]uint16{4, uint16(len(s))}), s...)
}

func process(start uint64, pid uint32, comm string) []byte {
	return append(append(native(start), native([]uint32{pid, 0})...), chars(comm, 16)...)
}

type decoding struct {
	as      string
	t       btf.Type
	o       layout.Options
	raw     []byte
	want    any // nil: no attribute
	refused string
}

func text(n int) btf.Type   { return btftypes.Array(btftypes.Char, n) }
func octets(n int) btf.Type { return btftypes.Array(btftypes.U8, n) }

func decodings() []decoding {
	u8, u16, u32, u64 := btftypes.U8, btftypes.U16, btftypes.U32, btftypes.U64
	enum := btftypes.Enum("color", map[string]uint64{"RED": 1, "BLUE": 2})
	colors := layout.Options{Values: map[int64]string{1: "red", -1: "none"}}
	flagNames := layout.Options{Values: map[int64]string{1: "one", 2: "two"}}
	netInterface := btftypes.NewStruct("interface", btftypes.Field{Name: "network_namespace", Type: u32}, btftypes.Field{Name: "index", Type: u32})
	secret := layout.Options{Redact: []*regexp.Regexp{regexp.MustCompile(`key=(\w+)`), regexp.MustCompile("hidden")}}
	omit := layout.Options{OmitZero: true}
	v6 := []byte{0x20, 1, 0xd, 0xb8, 15: 1}
	mapped := []byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}
	return []decoding{
		{as: "", t: u8, raw: []byte{200}, want: int64(200)},
		{as: "", t: btftypes.S8, raw: []byte{200}, want: int64(-56)},
		{as: "", t: btftypes.Bool, raw: []byte{1}, want: true},
		{as: "", t: enum, raw: native(uint32(2)), want: "BLUE"},
		{as: "", t: text(4), raw: []byte("ab\x00c"), want: "ab"},
		{as: "", t: octets(2), raw: []byte{1, 0xab}, want: "01ab"},
		{as: "", t: btftypes.Blob, raw: blob("hello"), want: "hello"},
		{as: "uint", t: u64, raw: native(uint64(math.MaxInt64)), want: int64(math.MaxInt64)},
		{as: "uint", t: u64, raw: native(uint64(math.MaxUint64)), want: "18446744073709551615"},
		{as: "uint", t: u32, o: omit, raw: native(uint32(0)), want: nil},
		{as: "uint", t: u32, o: layout.Options{Scale: 0.25}, raw: native(uint32(3)), want: 0.75},
		{as: "uint", t: octets(4), refused: "not a number"},
		{as: "int", t: u32, raw: native(int32(-5)), want: int64(-5)},
		{as: "int", t: btftypes.S32, o: layout.Options{Scale: 2}, raw: native(int32(-5)), want: float64(-10)},
		{as: "bool", t: u32, raw: native(uint32(0)), want: false},
		{as: "bool", t: u32, raw: native(uint32(2)), want: true},
		{as: "duration", t: u64, raw: native(uint64(1_500_000_000)), want: 1.5},
		{as: "duration", t: btftypes.S64, raw: native(int64(-1_500_000_000)), want: -1.5},
		{as: "enum", t: u32, o: colors, raw: native(uint32(1)), want: "red"},
		{as: "enum", t: btftypes.S8, o: colors, raw: []byte{0xff}, want: "none"},
		{as: "enum", t: u8, o: colors, raw: []byte{0xff}, want: "255"},
		{as: "enum", t: u8, o: colors, raw: []byte{7}, want: "7"},
		{as: "enum", t: enum, raw: native(uint32(3)), want: "3"},
		{as: "enum", t: u8, refused: "no values"},
		{as: "errno", t: u32, raw: native(uint32(2)), want: "ENOENT"},
		{as: "errno", t: btftypes.S32, raw: native(int32(-13)), want: "EACCES"},
		{as: "errno", t: btftypes.S32, raw: native(int32(-4000)), want: "4000"},
		{as: "errno", t: u32, raw: native(uint32(255)), want: "_OTHER"},
		{as: "signal", t: u32, raw: native(uint32(9)), want: "SIGKILL"},
		{as: "signal", t: u32, raw: native(uint32(40)), want: "SIG40"},
		{as: "port", t: u16, raw: []byte{0x01, 0xbb}, want: int64(443)},
		{as: "port", t: u32, refused: "not 2 bytes"},
		{as: "ip", t: u32, raw: []byte{10, 0, 0, 1}, want: "10.0.0.1"},
		{as: "ip", t: octets(16), raw: v6, want: "2001:db8::1"},
		{as: "ip", t: octets(16), raw: mapped, want: "10.0.0.1"},
		{as: "ip", t: u64, refused: "neither 4 nor 16"},
		{as: "mac", t: octets(6), raw: []byte{1, 2, 3, 0xaa, 0xbb, 0xcc}, want: "01:02:03:aa:bb:cc"},
		{as: "mac", t: u32, refused: "neither 6 nor 8"},
		{as: "hex", t: btftypes.Blob, raw: blob("\x00\xff"), want: "00ff"},
		{as: "bytes", t: octets(3), raw: []byte{1, 0, 2}, want: []byte{1, 0, 2}},
		{as: "bytes", t: btftypes.Blob, raw: blob("\xff"), want: []byte{0xff}},
		{as: "string", t: text(4), raw: []byte("abcd"), want: "abcd"},
		{as: "string", t: text(4), raw: []byte("a\xffb\x00"), want: "a\uFFFDb"},
		{as: "string", t: text(4), raw: chars("", 4), want: ""},
		{as: "string", t: text(4), o: omit, raw: []byte("\x00abc"), want: nil},
		{as: "string", t: btftypes.Blob, o: secret, raw: blob("key=abc hidden key=d"), want: "key=[REDACTED] [REDACTED] key=[REDACTED]"},
		{as: "string_array", t: btftypes.Blob, raw: blob("a\x00\x00b\x00"), want: []string{"a", "", "b"}},
		{as: "string_array", t: btftypes.Blob, raw: blob("cut"), want: []string{"cut"}},
		{as: "string_array", t: btftypes.Blob, o: omit, raw: blob(""), want: nil},
		{as: "string_array", t: btftypes.Blob, o: secret, raw: blob("key=x\x00hidden\x00"), want: []string{"key=[REDACTED]", "[REDACTED]"}},
		{as: "path", t: btftypes.Blob, raw: blob("leaf\x00mid\x00top\x00"), want: "/top/mid/leaf"},
		{as: "path", t: btftypes.Blob, raw: blob(""), want: "/"},
		{as: "path", t: btftypes.Blob, o: omit, raw: blob(""), want: nil},
		{as: "path", t: btftypes.Blob, raw: blob("\xff\x00a\x00"), want: "/a/\uFFFD"},
		{as: "process", t: btftypes.ProcessKey, raw: process(1, 42, "init"), want: sink{{"process.pid", int64(42)}, {"process.executable.name", "init"}}},
		{as: "process", t: u32, raw: native(uint32(42)), want: sink{{"process.pid", int64(42)}}},
		{as: "process", t: u64, refused: "32"},
		{as: "container", t: u64, raw: native(uint64(1)), want: layout.Container},
		{as: "container", t: u32, refused: "not a cgroup id"},
		{as: "container_address", t: octets(16), raw: mapped, want: layout.Container},
		{as: "container_address", t: u32, raw: []byte{10, 0, 0, 1}, want: layout.Container},
		{as: "container_address", t: u64, refused: "neither 4 nor 16"},
		{as: "cgroup", t: u64, raw: native(uint64(2)), want: "/cgroup1"},
		{as: "cgroup", t: u64, raw: native(uint64(100)), want: "100"},
		{as: "device", t: u32, raw: native(uint32(2)), want: "dev1"},
		{as: "ifindex", t: u32, raw: native(uint32(4)), want: "eth2"},
		{as: "ifindex", t: netInterface, raw: native([2]uint32{0, 4}), want: "eth2"},
		{as: "ifindex", t: netInterface, raw: native([2]uint32{9, 4}), want: "eth2@9"},
		{as: "ifindex", t: netInterface, raw: native([2]uint32{9, 400}), want: "400"},
		{as: "flags", t: u8, o: flagNames, raw: []byte{3}, want: "one|two"},
		{as: "flags", t: u8, o: flagNames, raw: []byte{2}, want: "two"},
		{as: "flags", t: u8, o: flagNames, raw: []byte{0}, want: ""},
		{as: "flags", t: u16, o: flagNames, raw: native(uint16(0x108)), want: "0x108"},
		{as: "flags", t: u8, o: layout.Options{Values: map[int64]string{-1: "all"}}, raw: []byte{1}, refused: "not bits"},
		{as: "flags", t: u8, refused: "no values"},
		{as: "flags", t: octets(16), o: flagNames, refused: "not a number"},
		{as: "transport", t: u8, raw: []byte{6}, want: "tcp"},
		{as: "transport", t: u8, raw: []byte{58}, want: "ipv6-icmp"},
		{as: "transport", t: u8, raw: []byte{253}, want: "253"},
		{as: "transport", t: octets(16), refused: "not a number"},
		{as: "ethertype", t: u16, raw: native(uint16(0x86dd)), want: "ipv6"},
		{as: "ethertype", t: u16, raw: native(uint16(0x9000)), want: "0x9000"},
		{as: "ethertype", t: u16, raw: native(uint16(1500)), want: "llc"},
		{as: "ethertype", t: octets(16), refused: "not a number"},
		{as: "ksym", t: u64, raw: native(uint64(6)), want: "symbol3"},
		{as: "syscall", t: btftypes.S32, raw: native(int32(8)), want: "call4"},
		{as: "user", t: u32, raw: native(uint32(math.MaxUint32)), want: "4294967295"},
		{as: "time", t: u64, raw: native(uint64(1_000_000)), want: "2023-11-14T22:13:20.001Z"},
		{as: "time", t: u32, refused: "not a time"},
		{as: "nothing", t: u32, refused: `k: unknown decoder "nothing"; there are ` + strings.Join(layout.Decoders(), ", ")},
	}
}

func TestSpecDecoders(t *testing.T) {
	tried := make(map[string]bool)
	for _, c := range decodings() {
		t.Run(fmt.Sprintf("%s/%v", c.as, c.want), func(t *testing.T) {
			if c.refused != "" {
				f, err := layout.FieldOf(c.t, ".")
				require.NoError(t, err)
				c.o.As, c.o.Names = c.as, names{}
				_, err = layout.NewColumn("k", f, c.o)
				assert.ErrorContains(t, err, c.refused)
				return
			}
			tried[c.as] = true
			column := columnOf(t, c.as, c.t, c.o)
			if c.want == layout.Container {
				assert.Equal(t, layout.Container, column.Entity)
				assert.EqualValues(t, 1, column.Cgroup(c.raw))
				assert.False(t, column.Exact())
				return
			}
			assert.Equal(t, layout.Attribute, column.Entity)
			want := sink{{"k", c.want}}
			switch v := c.want.(type) {
			case nil:
				want = nil
			case sink:
				want = v
			}
			for range 2 { // what a column keeps from one record does not show in the next
				var got sink
				require.NoError(t, column.Append(&got, c.raw))
				assert.Equal(t, want, got)
			}
			var got sink
			assert.Error(t, column.Append(&got, c.raw[:column.Size-1]))
			assert.Empty(t, got)
			assert.Zero(t, column.Cgroup(c.raw[:column.Size-1]))
		})
	}
	for _, name := range layout.Decoders() {
		assert.True(t, tried[name], "no case for decoder %s", name)
	}
}

// Names of the host are needed where they are used.
func TestSpecDecodersWithoutNames(t *testing.T) {
	f, err := layout.FieldOf(btftypes.U64, ".")
	require.NoError(t, err)
	for _, as := range []string{"cgroup", "device", "ifindex", "ksym", "syscall", "user", "time"} {
		_, err := layout.NewColumn("k", f, layout.Options{As: as})
		assert.ErrorContains(t, err, "names", as)
	}
}

// A blob that does not lie in its record gives an error and no attribute.
func TestSpecBlobOutsideOfItsRecord(t *testing.T) {
	for _, as := range []string{"string", "string_array", "path", "hex", "bytes"} {
		column := columnOf(t, as, btftypes.Blob, layout.Options{})
		for _, b := range [][]uint16{{4, 1}, {0, 5}, {65535, 65535}, {5, 0}} {
			var got sink
			assert.Error(t, column.Append(&got, native(b)), "%s %v", as, b)
			assert.Empty(t, got)
		}
	}
}
