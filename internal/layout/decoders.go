// SPDX-License-Identifier: Apache-2.0

package layout

import "strconv"

// builder completes a column for a field, or says why it can not.
type builder func(c *Column, f Field, o Options) error

// decoders by the name that specs use.
var decoders = map[string]builder{
	"uint":     buildUint,
	"int":      buildInt,
	"bool":     buildBool,
	"duration": buildDuration,
	"enum":     buildEnum,
	"errno":    buildErrno,
	"signal":   buildSignal,
	"flags":    buildFlags,

	"transport": buildTransport,
	"ethertype": buildEthertype,

	"port":  buildPort,
	"ip":    buildIP,
	"mac":   buildMAC,
	"hex":   buildHex,
	"bytes": buildBytes,

	"string":       buildString,
	"string_array": buildStrings,
	"path":         buildPath,

	"process":        buildProcess,
	"container":      buildContainer,
	ContainerAddress: buildContainerAddress,
	"time":           buildTime,
	"cgroup":         named(Names.CgroupPath),
	"device":         named(Names.Device),
	"ifindex":        buildInterface,
	"ksym":           symbol,
	"syscall":        named(Names.Syscall),
	"user":           named(Names.User),
}

// ContainerAddress is the name of the decoder that finds a container by an address of its own.
const ContainerAddress = "container_address"

// blobDecoder tells whether a decoder takes bytes of any length.
func blobDecoder(name string) bool {
	switch name {
	case "hex", "bytes", "string", "string_array", "path":
		return true
	}
	return false
}

// setText makes the column a string that is found in the field's bytes. Distinct fields may give the same string: the
// string is what tells series apart. It must not hold a NUL.
func (c *Column) setText(of func(raw []byte) string) {
	c.identity = func(dst, raw []byte) []byte { return append(append(dst, of(raw)...), 0) }
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutStr(name, of(raw)) }
}

// numeral is how a number stands for itself where it has no name.
func numeral(v int64, signed bool) string {
	if signed {
		return strconv.FormatInt(v, 10)
	}
	return strconv.FormatUint(uint64(v), 10)
}
