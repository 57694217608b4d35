// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// sampleTime is the time of the sample records.
const sampleTime = "2026-11-20T09:12:44.107532118Z"

// samples by attribute, for values that fit each other: one curl in one container.
var samples = map[string]any{
	"client.address":                     "198.51.100.7",
	"client.port":                        49812,
	"destination.address":                "192.0.2.10",
	"destination.port":                   443,
	"disk.io.direction":                  "read",
	"dns.question.name":                  "example.com",
	"error.type":                         "ENOENT",
	"file.path":                          "/etc/ssl/openssl.cnf",
	"http.request.method":                "GET",
	"http.response.status_code":          200,
	"network.interface.name":             "eth0",
	"network.io.direction":               "transmit",
	"network.transport":                  "tcp",
	"network.type":                       "ipv4",
	"process.args_count":                 3,
	"process.command_args":               []string{"curl", "-s", "https://example.com/"},
	"process.creation.time":              "2026-11-20T09:12:44.106914772Z",
	"process.executable.name":            "curl",
	"process.executable.path":            "/usr/bin/curl",
	"process.exit.code":                  0,
	"process.linux.cgroup":               sampleCgroup,
	"process.parent_pid":                 4180,
	"process.pid":                        4242,
	"process.real_user.id":               33,
	"process.real_user.name":             "www-data",
	"process.user.id":                    33,
	"process.user.name":                  "www-data",
	"process.vpid":                       17,
	"process.working_directory":          "/srv",
	"server.address":                     "192.0.2.10",
	"server.port":                        443,
	"source.address":                     "198.51.100.7",
	"source.port":                        49812,
	"ebpf.process.command_args.size":     29,
	"ebpf.process.comm":                  "curl",
	"ebpf.process.cpu.system.time":       0.004,
	"ebpf.process.cpu.time":              0.017,
	"ebpf.process.cpu.user.time":         0.013,
	"ebpf.process.creator.pid":           4180,
	"ebpf.process.group.id":              33,
	"ebpf.process.lifetime":              0.218,
	"ebpf.process.memory.peak":           11_534_336,
	"ebpf.process.memory.resident":       536_870_912,
	"ebpf.process.real_group.id":         33,
	"ebpf.process.signal.code":           0,
	"ebpf.process.signal.sender.name":    "systemd",
	"ebpf.process.signal.sender.pid":     1,
	"ebpf.process.signal.sender.user.id": 0,
	"ebpf.process.oom_score_adj":         980,
}

const (
	sampleContainer = "7f3c2a9e5b1d4c60a8e2f94b6d7310c5e9a4b8f2d6c01e37a5948b2fc6d1e083"
	samplePod       = "0d6f8a52-7c1e-4b93-9f27-5e3a1c8b4d60"
	sampleCgroup    = "/kubepods/burstable/pod" + samplePod + "/" + sampleContainer
)

// decoderSamples are for attributes that are not known by name, by their decoder.
var decoderSamples = map[string]any{
	"bytes":        "AAEC",
	"cgroup":       sampleCgroup,
	"device":       "nvme0n1",
	"duration":     0.042,
	"errno":        "ENOENT",
	"hex":          "0001fe",
	"ifindex":      "eth0",
	"ip":           "192.0.2.10",
	"ksym":         "tcp_v4_rcv",
	"mac":          "52:54:00:12:34:56",
	"path":         "/usr/bin/curl",
	"port":         443,
	"signal":       "SIGTERM",
	"string":       "curl",
	"string_array": []string{"curl", "-s"},
	"syscall":      "openat",
	"time":         sampleTime,
	"user":         "www-data",
}

var kindSamples = map[kind]any{
	kindBool: true, kindBytes: "AAEC", kindDouble: 0.042, kindInt: 1, kindString: "curl", kindStrings: []string{"curl", "-s"},
}

// record is a log record as JSON shows it.
type record struct {
	Timestamp  string            `json:"timestamp"`
	EventName  string            `json:"event_name"`
	Severity   string            `json:"severity_text"`
	Body       string            `json:"body,omitempty"`
	Attributes map[string]any    `json:"attributes"`
	Resource   map[string]string `json:"resource,omitempty"`
}

// sample is a record of the event as it might have happened.
func sample(name string, event probe.Event, kinds map[string]kind) string {
	r := record{
		Timestamp: sampleTime, EventName: name, Severity: strings.ToUpper(event.Severity),
		Attributes: make(map[string]any, len(event.Attributes)),
	}
	for _, attribute := range slices.Sorted(maps.Keys(event.Attributes)) {
		a := event.Attributes[attribute]
		switch {
		case a.As == "container":
			r.Resource = map[string]string{
				"container.id": sampleContainer, "container.runtime.name": "containerd", "k8s.pod.uid": samplePod,
			}
		case a.OmitZero && (kinds[attribute] == kindBool || a.As == "signal" || a.As == "errno"):
			// Something out of the ordinary, without which it is left out.
		case a.As == "process":
			r.Attributes["process.pid"] = samples["process.pid"]
			r.Attributes["process.executable.name"] = samples["process.executable.name"]
		default:
			r.Attributes[attribute] = sampleValue(attribute, a, kinds[attribute])
		}
	}
	r.Body = event.Body
	for attribute, value := range r.Attributes {
		r.Body = strings.ReplaceAll(r.Body, "{"+attribute+"}", fmt.Sprint(value))
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		panic(err) // strings and numbers alone can be encoded
	}
	return b.String()
}

func sampleValue(name string, a probe.Attribute, k kind) any {
	if value, ok := samples[name]; ok {
		return value
	}
	if len(a.Values) > 0 {
		return a.Values[slices.Min(slices.Collect(maps.Keys(a.Values)))]
	}
	if value, ok := decoderSamples[a.As]; ok {
		return value
	}
	return kindSamples[k]
}
