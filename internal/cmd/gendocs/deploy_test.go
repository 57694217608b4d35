// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// repository is the module's folder.
const repository = "../../.."

func content(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, file))
	require.NoError(t, err)
	return string(b)
}

type capabilities map[string]bool

func (c capabilities) list() []string { return slices.Sorted(maps.Keys(c)) }

func (c capabilities) add(others capabilities) { maps.Copy(c, others) }

// capabilitiesIn are those that a text names, as the kernel does.
func capabilitiesIn(text string) capabilities {
	found := make(capabilities)
	for _, name := range regexp.MustCompile(`CAP_[A-Z_]+`).FindAllString(text, -1) {
		found[name] = true
	}
	return found
}

// provenSets are the smallest sets that were found by trying, with everything enabled on every kernel: by probe.
func provenSets(t *testing.T) map[string]capabilities {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` (?:by default|with everything) +\\|(.*)$")
	sets := make(map[string]capabilities)
	for _, match := range row.FindAllStringSubmatch(content(t, "docs/privileges.md"), -1) {
		if sets[match[1]] == nil {
			sets[match[1]] = make(capabilities)
		}
		sets[match[1]].add(capabilitiesIn(match[2]))
	}
	require.NotEmpty(t, sets, "the table of docs/privileges.md")
	return sets
}

const (
	netRaw      = "CAP_NET_RAW"      // of the probe flow alone
	sysResource = "CAP_SYS_RESOURCE" // before Linux 5.11 alone
)

// What the files in deploy and the README grant is what was proven to be needed: no less, and no more.
func TestGrantedIsProven(t *testing.T) {
	sets := provenSets(t)
	base, onTop := make(capabilities), make(capabilities)
	for name, set := range sets {
		set = maps.Clone(set)
		for _, c := range []string{netRaw, sysResource} {
			if set[c] {
				onTop[c] = true
				delete(set, c)
			}
		}
		assert.Equal(t, name == "flow", sets[name][netRaw], "%s: is %s needed?", name, netRaw)
		base.add(set)
	}
	assert.Equal(t, []string{netRaw, sysResource}, onTop.list())

	service, readme := content(t, "deploy/otelcol-ebpf.service"), content(t, readmeFile)
	for _, line := range []struct{ file, lines, key string }{
		{"the unit", service, "AmbientCapabilities"}, {"the unit", service, "CapabilityBoundingSet"}, {readmeFile, readme, "AmbientCapabilities"},
	} {
		match := regexp.MustCompile(`(?m)^` + line.key + `=(.*)$`).FindStringSubmatch(line.lines)
		require.NotNil(t, match, "%s has no %s", line.file, line.key)
		assert.Equal(t, base.list(), capabilitiesIn(match[1]).list(), "%s: %s", line.file, line.key)
	}
	assert.Contains(t, service, netRaw)
	assert.Contains(t, service, "\nLimitMEMLOCK=infinity\n", "does as well as %s", sysResource)

	context := regexp.MustCompile(`(?m)^securityContext: (\{.*\})$`).FindStringSubmatch(readme)
	require.NotNil(t, context, "README.md has no securityContext")
	var inReadme securityContext
	require.NoError(t, yaml.Unmarshal([]byte(context[1]), &inReadme))
	for file, context := range map[string]securityContext{readmeFile: inReadme, daemonSetFile: daemonSet(t).container().SecurityContext} {
		assert.Equal(t, []string{"ALL"}, context.Capabilities.Drop, file)
		assert.Equal(t, base.list(), context.granted().list(), file)
		// Capabilities that are added take effect for no other user.
		require.NotNil(t, context.RunAsUser, file)
		assert.Zero(t, *context.RunAsUser, file)
		assert.False(t, context.Privileged, file)
	}
}

const daemonSetFile = "deploy/kubernetes/daemonset.yaml"

type securityContext struct {
	RunAsUser    *int `yaml:"runAsUser"`
	Privileged   bool `yaml:"privileged"`
	Capabilities struct {
		Drop []string `yaml:"drop"`
		Add  []string `yaml:"add"`
	} `yaml:"capabilities"`
}

func (c securityContext) granted() capabilities {
	found := make(capabilities)
	for _, name := range c.Capabilities.Add {
		found["CAP_"+name] = true
	}
	return found
}

type container struct {
	SecurityContext securityContext `yaml:"securityContext"`
	VolumeMounts    []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type manifest struct {
	Kind string `yaml:"kind"`
	Spec struct {
		Template struct {
			Spec struct {
				HostPID     bool        `yaml:"hostPID"`
				HostNetwork bool        `yaml:"hostNetwork"`
				Containers  []container `yaml:"containers"`
				Volumes     []struct {
					Name     string `yaml:"name"`
					HostPath *struct {
						Path string `yaml:"path"`
					} `yaml:"hostPath"`
				} `yaml:"volumes"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

func (m manifest) container() container { return m.Spec.Template.Spec.Containers[0] }

func daemonSet(t *testing.T) manifest {
	t.Helper()
	for decoder := yaml.NewDecoder(bytes.NewReader([]byte(content(t, daemonSetFile)))); ; {
		var m manifest
		err := decoder.Decode(&m)
		require.NotErrorIs(t, err, io.EOF, "no DaemonSet in %s", daemonSetFile)
		require.NoError(t, err)
		if m.Kind == "DaemonSet" {
			require.Len(t, m.Spec.Template.Spec.Containers, 1)
			return m
		}
	}
}

// The host's files are mounted where the configuration of the DaemonSet looks for them, read-only, and each as the document says.
func TestDaemonSetMounts(t *testing.T) {
	var example struct {
		Receivers struct {
			EBPF struct {
				RootPath string `yaml:"root_path"`
			} `yaml:"ebpf"`
		} `yaml:"receivers"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(content(t, "examples/kubernetes.yaml")), &example))
	root := example.Receivers.EBPF.RootPath
	require.NotEmpty(t, root)

	m, document := daemonSet(t), content(t, "deploy/README.md")
	pod := m.Spec.Template.Spec
	assert.False(t, pod.HostPID)
	assert.False(t, pod.HostNetwork)
	host := make(map[string]string)
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			host[v.Name] = v.HostPath.Path
		}
	}
	var mounted []string
	for _, mount := range m.container().VolumeMounts {
		assert.True(t, mount.ReadOnly, mount.MountPath)
		if path, ok := host[mount.Name]; ok {
			assert.Equal(t, root+path, mount.MountPath)
			assert.Contains(t, document, "| `"+path+"` | `"+mount.MountPath+"` |")
			mounted = append(mounted, path)
		}
	}
	assert.ElementsMatch(t, []string{"/proc", "/sys", "/etc/passwd"}, mounted)
}
