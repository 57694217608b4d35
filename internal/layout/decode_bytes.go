// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
)

// buildPort is for a __be16, as ports stand in headers and sockets; one in host order is a uint.
func buildPort(c *Column, f Field, _ Options) error {
	if f.Size != 2 {
		return errors.New("the field has not 2 bytes")
	}
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutInt(name, int64(binary.BigEndian.Uint16(raw))) }
	return nil
}

// buildIP shows an IPv4-mapped address as the IPv4 address that it is; no other bytes look like it.
func buildIP(c *Column, f Field, o Options) error {
	address, err := addressOf(f)
	if err != nil {
		return err
	}
	// One side of most flows is an address of the host, and comes again and again.
	var last netip.Addr
	var text string
	c.decode = func(dst Sink, name string, raw []byte) {
		if a := address(raw); a != last {
			last, text = a, a.String()
			if name, ok := o.Addresses[a]; ok {
				text = name
			}
		}
		dst.PutStr(name, text)
	}
	return nil
}

// addressOf is how a field is read as an address.
func addressOf(f Field) (func(raw []byte) netip.Addr, error) {
	switch f.Size {
	case 4:
		return func(raw []byte) netip.Addr { return netip.AddrFrom4([4]byte(raw)) }, nil
	case 16:
		return func(raw []byte) netip.Addr { return netip.AddrFrom16([16]byte(raw)).Unmap() }, nil
	}
	return nil, errors.New("the field has neither 4 nor 16 bytes")
}

func buildMAC(c *Column, f Field, _ Options) error {
	if f.Size != 6 && f.Size != 8 {
		return errors.New("the field has neither 6 nor 8 bytes")
	}
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutStr(name, net.HardwareAddr(raw).String()) }
	return nil
}

func buildHex(c *Column, _ Field, _ Options) error {
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutStr(name, hex.EncodeToString(raw)) }
	return nil
}

func buildBytes(c *Column, _ Field, _ Options) error {
	c.decode = func(dst Sink, name string, raw []byte) { dst.PutBytes(name, raw) }
	return nil
}
