// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
)

// Container is what a cgroup's path tells about the container that it belongs to.
type Container struct {
	// ID is the runtime's own id: 64 hex digits for most, 32 hex digits and a number for ECS on Fargate, groups of hex
	// digits and dashes for Garden. Empty for a pod's own cgroup and where a runtime has only names.
	ID string
	// Name is the container's name, for runtimes that put names and not ids into cgroups: LXC, systemd-nspawn, BuildKit.
	Name string
	// PodUID is the Kubernetes pod's uid. That of a static pod is the 32 hex digits of its configuration's hash,
	// which the API server knows as the annotation kubernetes.io/config.hash.
	PodUID string
	// Runtime is docker, containerd, cri-o, podman, ecs, garden, buildkit, lxc or systemd-nspawn; empty when the
	// path does not tell, as with the kubelet's cgroupfs driver.
	Runtime string
}

// runtimes are by the prefix that they give to a container's cgroup.
var runtimes = map[string]string{
	"docker":         "docker",
	"cri-containerd": "containerd",
	"containerd":     "containerd",
	"nerdctl":        "containerd",
	"crio":           "cri-o",
	"cri-o":          "cri-o",
	"libpod":         "podman",
	"libpod-payload": "podman",
	"buildkit":       "buildkit",
}

// ParseContainer finds the innermost container, and the pod around it, in a cgroup's path. It reports
// whether it found either. A cgroup below a container's (a systemd in it, podman's "container") belongs to the
// container. Helper processes that a runtime keeps beside a container (conmon, lxc.monitor) do not.
//
// A container that runs in a pod's container (Docker in Docker) keeps the pod's uid. A pod that runs in a
// container (kind, the node being a container) hides that container.
func ParseContainer(path string) (Container, bool) {
	var c Container
	var found bool
	for rest := path; rest != ""; {
		parent, segment := split(rest)
		rest = parent
		if segment == "" {
			continue
		}
		if !found {
			c, found = parseSegment(parent, segment)
		}
		if uid, ok := parsePod(parent, segment); ok {
			c.PodUID = uid
			break
		}
	}
	return c, found || c.PodUID != ""
}

func parseSegment(parent, segment string) (Container, bool) {
	name, scope := strings.CutSuffix(segment, ".scope")

	if isHex(name, 64) {
		return Container{ID: name, Runtime: runtimeAbove(parent)}, true
	}
	// containerd without the systemd driver under a systemd cgroup parent: SLICE:PREFIX:ID.
	if i := strings.LastIndexByte(name, ':'); i >= 0 && isHex(name[i+1:], 64) {
		before := name[:i]
		prefix := before[strings.LastIndexByte(before, ':')+1:]
		return Container{ID: name[i+1:], Runtime: runtimes[prefix]}, true
	}
	if i := strings.LastIndexByte(name, '-'); i >= 0 && isHex(name[i+1:], 64) {
		prefix := name[:i]
		runtime, known := runtimes[prefix]
		if strings.Contains(prefix, "conmon") || !known && !scope {
			return Container{}, false
		}
		return Container{ID: name[i+1:], Runtime: runtime}, true
	}
	if isFargate(name) && hasAncestor(parent, "ecs") {
		return Container{ID: name, Runtime: "ecs"}, true
	}
	if isUUID(name) || isGardenID(name) {
		outer, above := split(parent)
		if above == "good" || above == "bad" {
			_, above = split(outer)
		}
		if above == "garden" {
			return Container{ID: name, Runtime: "garden"}, true
		}
	}
	return parseNamed(parent, segment)
}

// parseNamed recognises the runtimes that put a name and no id into a cgroup's path.
func parseNamed(parent, segment string) (Container, bool) {
	_, above := split(parent)
	var c Container
	switch {
	case strings.HasPrefix(segment, "lxc.payload."):
		c = Container{Name: segment[len("lxc.payload."):], Runtime: "lxc"}
	case above == "lxc" || above == "lxc.payload":
		c = Container{Name: segment, Runtime: "lxc"}
	case above == "buildkit" && len(segment) == 25:
		c = Container{Name: segment, Runtime: "buildkit"}
	case strings.HasPrefix(segment, "systemd-nspawn@") && strings.HasSuffix(segment, ".service"):
		name := strings.TrimSuffix(segment[len("systemd-nspawn@"):], ".service")
		c = Container{Name: unescapeUnit(name), Runtime: "systemd-nspawn"}
	case above == "machine.slice" && strings.HasPrefix(segment, "machine-") && strings.HasSuffix(segment, ".scope"):
		name := unescapeUnit(strings.TrimSuffix(segment[len("machine-"):], ".scope"))
		// libvirt registers its virtual machines in the same way.
		if strings.HasPrefix(name, "qemu-") || strings.HasPrefix(name, "lxc-") {
			return Container{}, false
		}
		c = Container{Name: name, Runtime: "systemd-nspawn"}
	}
	if !isName(c.Name) {
		return Container{}, false
	}
	return c, true
}

// runtimeAbove tells the runtime of a container whose cgroup is called by its bare id, from the nearest
// telling directory above. A kubelet's says nothing: it names containers alike for every runtime.
func runtimeAbove(parent string) string {
	for first := true; parent != ""; first = false {
		var segment string
		parent, segment = split(parent)
		switch {
		case segment == "docker", segment == "actions_job":
			return "docker"
		case segment == "ecs":
			return "ecs"
		case segment == "libpod_parent":
			return "podman"
		case first && (segment == "default" || segment == "k8s.io"): // containerd's namespaces
			return "containerd"
		case strings.Contains(segment, "kubepods"), isHex(segment, 64):
			return ""
		}
	}
	return ""
}

// parsePod finds a pod's uid in a segment: "podUID" below a kubepods directory, or the slice of a pod,
// in which dashes are underscores, alone or before a colon.
func parsePod(parent, segment string) (string, bool) {
	name, _, _ := strings.Cut(segment, ":")
	name, slice := strings.CutSuffix(name, ".slice")
	var uid string
	if slice {
		i := strings.LastIndex(name, "-pod")
		if i < 0 {
			return "", false
		}
		uid = name[i+len("-pod"):]
	} else {
		var ok bool
		if uid, ok = strings.CutPrefix(name, "pod"); !ok {
			return "", false
		}
	}
	if !strings.Contains(name, "kubepods") && !strings.Contains(parent, "kubepods") {
		return "", false
	}
	uid = strings.ReplaceAll(uid, "_", "-")
	return uid, isUUID(uid) || isHex(uid, 32)
}

// split cuts the last segment off a path.
func split(path string) (parent, segment string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

func hasAncestor(parent, name string) bool {
	for parent != "" {
		var segment string
		if parent, segment = split(parent); segment == name {
			return true
		}
	}
	return false
}
