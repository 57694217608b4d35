// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const (
	idA  = "0f3a91b2c4d5e6f70819a2b3c4d5e6f70819a2b3c4d5e6f70819a2b3c4d5e6f7"
	idB  = "7be9ca69eb9bf17a4cf56a1b6ae7ec4d7e1b8b8e40c4b2e3df1fbd8b8b8e40c4"
	uid  = "2bc6f2ce-7d1a-4b58-9d43-5f0d7a1d6c11"
	uid_ = "2bc6f2ce_7d1a_4b58_9d43_5f0d7a1d6c11"
	hash = "a3a2cc1bf3ad2a5d3a6c0a2bd6e5cb9c"
)

var containerPaths = []struct {
	name, path string
	want       Container // the zero value: none
}{
	{"root", "/", Container{}},
	{"empty", "", Container{}},
	{"service", "/system.slice/ssh.service", Container{}},
	{"session", "/user.slice/user-1000.slice/session-3.scope", Container{}},

	{"docker systemd", "/system.slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}},
	{"docker cgroupfs", "/docker/" + idA, Container{ID: idA, Runtime: "docker"}},
	{"docker cgroupfs, systemd inside", "/docker/" + idA + "/system.slice/cron.service", Container{ID: idA, Runtime: "docker"}},
	{"docker rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}},
	{"docker outside of the cgroup namespace", "/../../docker/" + idA, Container{ID: idA, Runtime: "docker"}},
	{"docker parent of its own", "/build.slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}},
	{"docker daemon", "/system.slice/docker.service", Container{}},
	{"github actions", "/actions_job/" + idA, Container{ID: idA, Runtime: "docker"}},

	{
		"cri-containerd systemd burstable",
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + idA + ".scope",
		Container{ID: idA, PodUID: uid, Runtime: "containerd"},
	},
	{
		"cri-containerd systemd besteffort",
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid_ + ".slice/cri-containerd-" + idA + ".scope",
		Container{ID: idA, PodUID: uid, Runtime: "containerd"},
	},
	{
		"cri-containerd systemd guaranteed",
		"/kubepods.slice/kubepods-pod" + uid_ + ".slice/cri-containerd-" + idA + ".scope",
		Container{ID: idA, PodUID: uid, Runtime: "containerd"},
	},
	{
		"cri-containerd colons",
		"/system.slice/containerd.service/kubepods-burstable-pod" + uid_ + ".slice:cri-containerd:" + idA,
		Container{ID: idA, PodUID: uid, Runtime: "containerd"},
	},
	{"kubelet cgroupfs burstable", "/kubepods/burstable/pod" + uid + "/" + idA, Container{ID: idA, PodUID: uid}},
	{"kubelet cgroupfs besteffort", "/kubepods/besteffort/pod" + uid + "/" + idA, Container{ID: idA, PodUID: uid}},
	{"kubelet cgroupfs guaranteed", "/kubepods/pod" + uid + "/" + idA, Container{ID: idA, PodUID: uid}},
	{"kubelet cgroupfs with a cgroup root", "/custom/kubepods/pod" + uid + "/" + idA, Container{ID: idA, PodUID: uid}},
	{"static pod cgroupfs", "/kubepods/burstable/pod" + hash + "/" + idA, Container{ID: idA, PodUID: hash}},
	{
		"static pod systemd",
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hash + ".slice/cri-containerd-" + idA + ".scope",
		Container{ID: idA, PodUID: hash, Runtime: "containerd"},
	},
	{"pod alone cgroupfs", "/kubepods/burstable/pod" + uid, Container{PodUID: uid}},
	{"pod alone systemd", "/kubepods.slice/kubepods-pod" + uid_ + ".slice", Container{PodUID: uid}},
	{"all pods", "/kubepods.slice/kubepods-burstable.slice", Container{}},
	{"podlike, no Kubernetes", "/podracer/pod" + uid, Container{}},
	{"dockershim systemd", "/kubepods.slice/kubepods-pod" + uid_ + ".slice/docker-" + idA + ".scope", Container{ID: idA, PodUID: uid, Runtime: "docker"}},
	{"containerd ctr", "/default/" + idA, Container{ID: idA, Runtime: "containerd"}},
	{"containerd k8s.io", "/k8s.io/" + idA, Container{ID: idA, Runtime: "containerd"}},
	{"nerdctl", "/system.slice/nerdctl-" + idA + ".scope", Container{ID: idA, Runtime: "containerd"}},
	{"another scope with an id", "/machine.slice/runc-" + idA + ".scope", Container{ID: idA}},
	{"another directory with an id", "/x/data-" + idA, Container{}},

	{
		"cri-o systemd",
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid_ + ".slice/crio-" + idA + ".scope",
		Container{ID: idA, PodUID: uid, Runtime: "cri-o"},
	},
	{
		"cri-o systemd payload",
		"/kubepods.slice/kubepods-pod" + uid_ + ".slice/crio-" + idA + ".scope/container",
		Container{ID: idA, PodUID: uid, Runtime: "cri-o"},
	},
	{"cri-o cgroupfs", "/kubepods/burstable/pod" + uid + "/crio-" + idA, Container{ID: idA, PodUID: uid, Runtime: "cri-o"}},
	{"cri-o conmon", "/kubepods.slice/kubepods-pod" + uid_ + ".slice/crio-conmon-" + idA + ".scope", Container{PodUID: uid}},

	{"podman", "/machine.slice/libpod-" + idA + ".scope", Container{ID: idA, Runtime: "podman"}},
	{"podman payload", "/machine.slice/libpod-" + idA + ".scope/container", Container{ID: idA, Runtime: "podman"}},
	{"podman init inside", "/machine.slice/libpod-" + idA + ".scope/container/init.scope", Container{ID: idA, Runtime: "podman"}},
	{"podman rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + idA + ".scope/container", Container{ID: idA, Runtime: "podman"}},
	{"podman pod", "/machine.slice/machine-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope", Container{ID: idA, Runtime: "podman"}},
	{"podman conmon", "/machine.slice/libpod-conmon-" + idA + ".scope", Container{}},
	{"podman cgroupfs", "/libpod_parent/libpod-" + idA, Container{ID: idA, Runtime: "podman"}},
	{"podman cgroupfs conmon", "/libpod_parent/libpod-conmon-" + idA, Container{}},
	{"podman split", "/system.slice/web.service/libpod-payload-" + idA, Container{ID: idA, Runtime: "podman"}},
	{"podman split runtime", "/system.slice/web.service/runtime", Container{}},

	{"ecs ec2", "/ecs/" + uid + "/" + idA, Container{ID: idA, Runtime: "ecs"}},
	{"ecs ec2 with a cluster", "/ecs/my-cluster/" + hash + "/" + idA, Container{ID: idA, Runtime: "ecs"}},
	{"ecs ec2 systemd", "/ecstasks.slice/ecstasks-" + hash + ".slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}},
	{"ecs fargate", "/ecs/" + hash + "/" + hash + "-1234567890", Container{ID: hash + "-1234567890", Runtime: "ecs"}},
	{"ecs fargate without the task", "/ecs/" + hash + "-1234567890", Container{ID: hash + "-1234567890", Runtime: "ecs"}},
	{"fargate-like elsewhere", "/x/" + hash + "-1234567890", Container{}},

	{"garden", "/garden/6f265890-5165-7fab-6b52-18d1", Container{ID: "6f265890-5165-7fab-6b52-18d1", Runtime: "garden"}},
	{"garden good", "/system.slice/runc-bpm-garden.scope/garden/good/" + uid, Container{ID: uid, Runtime: "garden"}},
	{"uuid elsewhere", "/x/" + uid, Container{}},
	{"buildkit", "/docker/buildkit/sdb9xgrmfrmy6ykrdpt0qdjq6", Container{Name: "sdb9xgrmfrmy6ykrdpt0qdjq6", Runtime: "buildkit"}},
	{"lxc", "/lxc/100", Container{Name: "100", Runtime: "lxc"}},
	{"lxc inside", "/lxc/100/ns/system.slice/cron.service", Container{Name: "100", Runtime: "lxc"}},
	{"lxc payload", "/lxc.payload.web-1/init.scope", Container{Name: "web-1", Runtime: "lxc"}},
	{"lxc payload directory", "/lxc.payload/web-1", Container{Name: "web-1", Runtime: "lxc"}},
	{"lxc monitor", "/lxc.monitor.web-1", Container{}},
	{"nspawn service", "/machine.slice/systemd-nspawn@deb\\x2d12.service/payload/init.scope", Container{Name: "deb-12", Runtime: "systemd-nspawn"}},
	{"nspawn scope", "/machine.slice/machine-deb\\x2d12.scope/payload", Container{Name: "deb-12", Runtime: "systemd-nspawn"}},
	{"libvirt", "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", Container{}},

	{
		"kind, cgroupfs",
		"/docker/" + idB + "/kubelet/kubepods/burstable/pod" + uid + "/" + idA,
		Container{ID: idA, PodUID: uid},
	},
	{
		"kind, systemd",
		"/system.slice/docker-" + idB + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/" +
			"kubelet-kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + idA + ".scope",
		Container{ID: idA, PodUID: uid, Runtime: "containerd"},
	},
	{"kind, a pod's own", "/docker/" + idB + "/kubelet/kubepods/pod" + uid, Container{PodUID: uid}},
	{"kind, the node", "/docker/" + idB + "/kubelet", Container{ID: idB, Runtime: "docker"}},
	{"docker in docker", "/docker/" + idB + "/docker/" + idA, Container{ID: idA, Runtime: "docker"}},
	{"docker in a pod", "/kubepods/pod" + uid + "/" + idB + "/docker/" + idA, Container{ID: idA, PodUID: uid, Runtime: "docker"}},
	{"docker in lxc", "/lxc/100/ns/system.slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}},

	{"too short", "/docker/" + idA[1:], Container{}},
	{"too long", "/docker/" + idA + "0", Container{}},
	{"upper case", "/docker/" + strings.ToUpper(idA), Container{}},
	{"not hex", "/docker/" + idA[1:] + "g", Container{}},
	{"trailing slash", "/docker/" + idA + "/", Container{ID: idA, Runtime: "docker"}},
}

func TestParseContainer(t *testing.T) {
	for _, test := range containerPaths {
		t.Run(test.name, func(t *testing.T) {
			got, ok := ParseContainer(test.path)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.want != Container{}, ok)
		})
	}
}

func FuzzParseContainer(f *testing.F) {
	for _, test := range containerPaths {
		f.Add(test.path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		c, ok := ParseContainer(path)
		if ok != (c.ID != "" || c.Name != "" || c.PodUID != "") {
			t.Fatalf("%v for %+v", ok, c)
		}
		if !ok && c != (Container{}) {
			t.Fatalf("none, yet %+v", c)
		}
		if c.ID != "" {
			if strings.Trim(c.ID, "0123456789abcdef-") != "" || len(c.ID) < 28 || len(c.ID) > 64 {
				t.Fatalf("container id %q", c.ID)
			}
			if !strings.Contains(path, c.ID) {
				t.Fatalf("container id %q is not in the path", c.ID)
			}
		}
		if c.ID != "" && c.Name != "" {
			t.Fatalf("both an id and a name: %+v", c)
		}
		if len(c.Name) > 128 || strings.ContainsAny(c.Name, "/\x00\n ") {
			t.Fatalf("name %q", c.Name)
		}
		if n := len(c.PodUID); n != 0 && n != 32 && n != 36 || strings.Trim(c.PodUID, "0123456789abcdef-") != "" {
			t.Fatalf("pod uid %q", c.PodUID)
		}
	})
}

func BenchmarkParseContainer(b *testing.B) {
	path := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + idA + ".scope"
	b.ReportAllocs()
	for b.Loop() {
		ParseContainer(path)
	}
}
