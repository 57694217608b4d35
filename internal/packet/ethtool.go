// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"bufio"
	"io"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolGRO is ETHTOOL_GGRO of include/uapi/linux/ethtool.h.
const ethtoolGRO = 0x2b

// driver asks what drives an interface, through any socket of its namespace, and which device of a bus it is.
func driver(fd int, name string) (driver, bus string) {
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return "", ""
	}
	return text(info.Driver[:]), text(info.Bus_info[:])
}

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// ifreqData is struct ifreq with its ifr_data.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// gro asks whether received packets are merged (generic receive offload).
func gro(fd int, name string) bool {
	value := ethtoolValue{cmd: ethtoolGRO}
	request := ifreqData{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	return errno == 0 && value.data != 0
}

// vethMerges tells whether a veth with GRO merges packets. Before Linux 5.13 it does not without XDP, and yet says that GRO is on, which is
// its default: only with veth_set_features can it be switched. Where the kernel's functions are not to be seen, it is taken to be able to.
var vethMerges = sync.OnceValue(func() bool {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return true
	}
	defer f.Close()
	return vethMergesIn(f)
})

// vethMergesIn looks for the function in the kernel's symbols, if the functions of veth are among them.
func vethMergesIn(symbols io.Reader) bool {
	veth := false
	for lines := bufio.NewScanner(symbols); lines.Scan(); {
		_, name, _ := strings.Cut(lines.Text(), " t ")
		name, _, _ = strings.Cut(name, "\t")
		if name == "veth_set_features" {
			return true
		}
		veth = veth || name == "veth_xmit"
	}
	return !veth
}
