// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What is read of a passwd file at most.
const (
	maxPasswdBytes = 16 << 20
	maxUsers       = 65_536
)

// passwdCheck is how often the file is looked at for changes.
const passwdCheck = 10 * time.Second

// Users names users as the host's passwd file does. A container's own users may be called otherwise, and those
// of a directory service (LDAP) are not in it. It is safe for concurrent use.
type Users struct {
	file string
	now  func() time.Time

	next  atomic.Int64 // when the file is looked at again, ns
	names atomic.Pointer[map[uint32]string]
	mu    sync.Mutex  // held while the file is looked at
	last  os.FileInfo // of the file that names came from
}

// NewUsers reads <root>/etc/passwd when it is first asked. A nil clock takes time.Now.
func NewUsers(root string, now func() time.Time) *Users {
	if now == nil {
		now = time.Now
	}
	u := &Users{file: under(root, "/etc/passwd"), now: now}
	u.names.Store(&map[uint32]string{})
	return u
}

// Resolve returns a user's name, and whether it has one.
func (u *Users) Resolve(uid uint32) (string, bool) {
	if now := u.now().UnixNano(); now >= u.next.Load() {
		u.refresh(now)
	}
	name, ok := (*u.names.Load())[uid]
	return name, ok
}

func (u *Users) refresh(now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now < u.next.Load() {
		return // somebody else did
	}
	defer u.next.Store(now + int64(passwdCheck))
	info, err := os.Stat(u.file)
	if err != nil || u.last != nil && sameFile(info, u.last) {
		return // a file that is being replaced may be missing for a moment
	}
	f, err := os.Open(u.file)
	if err != nil {
		return
	}
	defer f.Close()
	names, err := parsePasswd(io.LimitReader(f, maxPasswdBytes))
	if err != nil {
		return
	}
	u.last = info
	u.names.Store(&names)
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// parsePasswd parses a passwd(5) file. Of several users with one uid the first counts, as for getpwuid(3). Other
// lines, such as NIS's, are skipped.
func parsePasswd(r io.Reader) (map[uint32]string, error) {
	names := make(map[uint32]string)
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(names) < maxUsers {
		fields := strings.SplitN(lines.Text(), ":", 4)
		if len(fields) < 4 || fields[0] == "" || strings.ContainsAny(fields[0][:1], "+-#") {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		if _, taken := names[uint32(uid)]; !taken {
			names[uint32(uid)] = strings.Clone(fields[0])
		}
	}
	return names, lines.Err()
}
