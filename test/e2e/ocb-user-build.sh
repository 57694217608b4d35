#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds a Collector as a user of this module does: from a manifest that names it in one `gomod:` line, and
# without a look at this folder. The module comes from a proxy in a temporary folder, packed from the
# working tree by the rules for published modules. Then the Collector has to know the receiver, and to accept a
# configuration with it, as any user.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
module=github.com/ebpfreceiver/ebpfreceiver
# A version of its own for every run: the go command keeps what it has seen of a version.
version=v0.0.0-test.$(date +%s)
work=$(mktemp -d)
cache=$(go env GOMODCACHE)
cleanup() {
	local seen="$cache/$module@$version"
	[ -d "$seen" ] && chmod -R u+w "$seen"
	rm -rf "$work" "$seen" "$cache/cache/download/$module/@v/$version".*
}
trap cleanup EXIT

step() { printf '%s\n' "--- $*"; }

step "packing the module as $version"
(cd "$root/internal/tools" && go run ./modproxy -dir "$root" -version "$version" -proxy "$work/proxy")

cat >"$work/manifest.yaml" <<MANIFEST
dist:
  module: example.com/collector
  name: collector
  output_path: $work/build
receivers:
  - gomod: $module $version
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter v0.159.0
MANIFEST

cat >"$work/config.yaml" <<CONFIG
receivers:
  ebpf:
exporters:
  debug:
service:
  pipelines:
    metrics: { receivers: [ebpf], exporters: [debug] }
    logs: { receivers: [ebpf], exporters: [debug] }
CONFIG

step "building from: gomod: $module $version"
(cd "$root" && go build -modfile=internal/tools/go.mod -o "$work/ocb" go.opentelemetry.io/collector/cmd/builder)
(
	cd "$work" # away from the module's own go.mod
	export GOPROXY="file://$work/proxy,$(go env GOPROXY)" GONOSUMDB="$module" GOFLAGS=-mod=mod
	./ocb --config manifest.yaml
)

step "asking the Collector for its components"
"$work/build/collector" components | tee "$work/components"
grep -Fq "$module $version" "$work/components"
grep -Eq '^ +- name: ebpf$' "$work/components"

step "validating a configuration"
"$work/build/collector" validate --config "$work/config.yaml"
step "ok"
