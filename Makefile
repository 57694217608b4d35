# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# Extra flags for the tests: make test TESTFLAGS=-race
TESTFLAGS ?=
CLANG ?= clang-19
# What the committed objects were compiled with, in Debian's package 1:19.1.7-3~deb12u1.
CLANG_VERSION := 19.1.7
STRIP ?= llvm-strip-19

TOOL := $(GO) tool -modfile=internal/tools/go.mod
LINT := $(GO) tool -modfile=internal/tools/lint/go.mod golangci-lint
# What the Collector consists of: builder-config.yaml or deploy/builder-config.full.yaml.
MANIFEST ?= builder-config.yaml
COLLECTOR := build/otelcol-ebpf
# Attaching programs needs root, or the capabilities that the README lists.
ROOT := $(if $(filter-out 0,$(shell id -u)),$(shell command -v sudo))

## run: build the Collector and show what this host does (needs root, or sudo)
.PHONY: run
run: collector
	@echo "Metrics: http://127.0.0.1:9464/metrics, and below with every new process. Stop with Ctrl-C."
	$(ROOT) ./$(COLLECTOR) --config examples/first-look.yaml

## collector: build the Collector as build/otelcol-ebpf
.PHONY: collector
collector:
	@echo "Building $(COLLECTOR): some minutes the first time, seconds after that."
	@echo "1/2 writing its sources and fetching its modules"
	@# With the same flags as the Collector, it shares packages with it that need not be compiled twice.
	@CGO_ENABLED=0 GOFLAGS="$$($(GO) env GOFLAGS) -trimpath" $(TOOL) builder --config $(MANIFEST) --skip-compilation
	@echo "2/2 compiling"
	@cd build && CGO_ENABLED=0 $(GO) build -v -trimpath -ldflags='-s -w' -o $(notdir $(COLLECTOR)) . 2>&1 \
		| awk '/^[A-Za-z0-9_.\/~-]+$$/ { if (++n % 50 == 0) { print "    " n " packages"; fflush() } next } { print; fflush() }'
	@echo "Built $(COLLECTOR)"

## test: every test that this kernel and this user can run; sudo, if there is one, runs those that need root
.PHONY: test
test:
	$(GO) test $(TESTFLAGS) ./...
ifneq ($(shell id -u),0)
ifneq ($(ROOT),)
	$(GO) test $(TESTFLAGS) -count=1 -run '^TestKernel' -exec $(ROOT) ./...
else
	@echo "The tests that attach programs were skipped: they need root, and there is no sudo."
endif
endif

## test-build: prove that a Collector of one's own needs one line in its manifest
.PHONY: test-build
test-build:
	test/e2e/ocb-user-build.sh

## test-e2e: the built Collector with real processes, reloads, signals, few rights, and a backend that goes away (needs root, or sudo)
.PHONY: test-e2e
test-e2e: collector
	$(GO) test $(TESTFLAGS) -count=1 -v $(if $(ROOT),-exec $(ROOT)) ./test/e2e
	$(GO) test $(TESTFLAGS) -count=1 -v $(if $(ROOT),-exec $(ROOT)) -run 'Outage|MemoryLimiter' ./test/reliability

# Flags of the kernel matrix: make test-kernels KERNELFLAGS='-kernels "6.1 amd64" -packages cpu', or -pin.
KERNELFLAGS ?=
## test-kernels: the tests that attach programs, on Debian's kernels in virtual machines (needs qemu, apt and dpkg; no rights)
.PHONY: test-kernels
test-kernels:
	nice $(GO) run ./test/vm $(KERNELFLAGS)

## validate: hold the examples against the built Collector; needs no rights
.PHONY: validate
validate: collector
	@for f in examples/*.yaml; do \
		if grep -q k8s_attributes "$$f" && ! ./$(COLLECTOR) components | grep -q k8s_attributes; then \
			echo "$$f: not checked, needs MANIFEST=deploy/builder-config.full.yaml"; continue; \
		fi; \
		./$(COLLECTOR) validate --config "$$f" || exit 1; echo "$$f: valid"; \
	done

## reliability: storms, millions of keys, outages and kills, in full size: some fifteen minutes (needs root, or sudo)
.PHONY: reliability
reliability: collector
	RELIABILITY=full $(GO) test $(TESTFLAGS) -count=1 -v -timeout 60m $(if $(ROOT),-exec '$(ROOT) -E') -skip '^TestKernelSoak$$' ./test/reliability

# How long the soak goes on, and each fuzz test.
SOAK ?= 1h
FUZZTIME ?= 30s
## soak: everything that comes and goes on a host, for an hour: what the receiver holds stays the same (needs root, or sudo)
.PHONY: soak
soak:
	SOAK=$(SOAK) $(GO) test $(TESTFLAGS) -count=1 -v -timeout 24h $(if $(ROOT),-exec '$(ROOT) -E') -run '^TestKernelSoak$$' ./test/reliability

## fuzz: each fuzz test for half a minute
.PHONY: fuzz
fuzz:
	@grep -rn --include='*_test.go' '^func Fuzz' . | sed -nE 's#^\./(.*)/[^/]+\.go:[0-9]+:func (Fuzz[A-Za-z0-9]+).*#\1 \2#p' | sort -u | \
	while read -r package test; do \
		echo "$$package $$test"; \
		$(GO) test ./$$package -run '^$$' -fuzz "^$$test$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x </dev/null || exit 1; \
	done

# The sources of the Collector that has everything, without compiling it: enough to know its modules.
.PHONY: full-sources
full-sources:
	@rm -rf build/full && mkdir -p build
	@sed -e 's#^  output_path: \./build$$#&/full#' -e 's#=> \.\./$$#=> ../../#' deploy/builder-config.full.yaml > build/full.yaml
	$(TOOL) builder --config build/full.yaml --skip-compilation

## dependencies: write docs/dependencies.md
.PHONY: dependencies
dependencies: collector full-sources
	$(GO) run ./internal/cmd/licences -collector $(COLLECTOR) -full build/full

## supply-chain: licences of all that is built in, objects that are their sources, and known vulnerabilities where their list can be had
.PHONY: supply-chain
supply-chain: collector full-sources objects-check
	$(GO) run ./internal/cmd/licences -check -collector $(COLLECTOR) -full build/full
	$(GO) mod verify
	@echo "govulncheck ./..."; out=$$($(GO) tool -modfile=internal/tools/vuln/go.mod govulncheck ./... 2>&1) || { status=$$?; echo "$$out"; \
		case "$$out" in *"fetching vulnerabilities"*) echo "Not checked: the list of vulnerabilities is not to be had here.";; *) exit $$status;; esac; }

# In another folder, which has nothing but the sources. Another clang of the same major version may make the same.
.PHONY: objects-check
objects-check:
	@$(CLANG) --version | head -n 1
	@version=$$($(CLANG) --version | sed -nE 's/.*clang version ([0-9.]+).*/\1/p') && \
	clangs="this is clang $$version, the objects are of $(CLANG_VERSION)" && \
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	cp --parents Makefile $(BPF_HEADERS) $(BPF_SOURCES) "$$dir" && \
	$(MAKE) -s -C "$$dir" objects && \
	others=$$(for o in $(BPF_SOURCES:.c=.o); do cmp "$$o" "$$dir/$$o" 2>&1 || true; done) && \
	if [ -n "$$others" ]; then \
		echo "$$others"; \
		if [ "$$version" = $(CLANG_VERSION) ]; then echo "Not what their sources compile to: commit what make generate changes."; \
		else echo "Not what their sources compile to, of which the compiler may be the reason: $$clangs."; fi; \
		exit 1; \
	fi && \
	echo "$(words $(BPF_SOURCES)) objects are what their sources compile to, bit for bit$$([ "$$version" = $(CLANG_VERSION) ] || echo ", though $$clangs")"

# Flags of the benchmarks' command: make bench BENCHFLAGS='-areas run-queue', or -record, which writes docs/benchmarks.md.
BENCHFLAGS ?=
## bench: what the receiver costs, beside its peers and its floors, in about five minutes (needs root, or sudo)
.PHONY: bench
bench: collector
	$(GO) build -o build/bench/bench ./test/bench
	$(GO) test -c -o build/bench/emit.test ./receiver/internal/emit
	$(ROOT) build/bench/bench -emit build/bench/emit.test -collector $(COLLECTOR) -docs docs/benchmarks.md $(BENCHFLAGS)

## generate: everything that is generated and committed: objects, metadata, documentation
.PHONY: generate
generate:
	$(MAKE) -B objects
	cd receiver && $(GO) tool -modfile=../internal/tools/go.mod mdatagen metadata.yaml
	@# It names the tests' package after the folder, and lets nobody else read what it writes.
	sed -i 's/^package receiver$$/package ebpfreceiver/' receiver/generated_*_test.go
	chmod -R u=rwX,go=rX receiver
	$(GO) run ./internal/cmd/gendocs

# Paths go into an object's BTF: they are made relative, so that every checkout gives the same bytes.
BPF_SOURCES := $(wildcard bpf/*/*.bpf.c bpf/identity/*/*.bpf.c examples/probes/*/*.bpf.c test/bench/*/*.bpf.c test/reliability/*/*.bpf.c \
	internal/packet/testdata/*/*.bpf.c internal/packet/filter/testdata/*.bpf.c internal/layout/testdata/*.bpf.c \
	internal/probe/testdata/*/*.bpf.c receiver/testdata/*/*.bpf.c)
BPF_HEADERS := $(wildcard bpf/include/*.h)
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Werror -Ibpf/include \
	-I/usr/include/$(shell gcc -print-multiarch 2>/dev/null || echo $(shell uname -m)-linux-gnu) \
	-fdebug-compilation-dir=. -ffile-prefix-map=$(CURDIR)=.

## objects: compile the programs (needs clang 19 and the headers of libbpf)
.PHONY: objects
objects: $(BPF_SOURCES:.c=.o)

%.bpf.o: %.bpf.c $(BPF_HEADERS)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@.tmp
	$(STRIP) -g $@.tmp
	mv $@.tmp $@

# Every file of the tree, committed or not.
SOURCES := git ls-files -z --cached --others --exclude-standard

## generate-check: fail when `make generate` would change a file
.PHONY: generate-check
generate-check:
	@before=$$(mktemp) && after=$$(mktemp) && trap 'rm -f "$$before" "$$after"' EXIT && \
	sums() { $(SOURCES) | sort -zu | { xargs -0 sha256sum 2>/dev/null || true; }; } && \
	sums > "$$before" && $(MAKE) generate && sums > "$$after" && \
	if ! diff "$$before" "$$after"; then echo "Not up to date: commit what make generate changes."; exit 1; fi

## lint: what CI checks without running anything
.PHONY: lint
lint: versions licenses
	$(LINT) run ./...
	$(LINT) fmt --diff ./...

# A Collector is built of one set of versions; another one is easily pulled in by an import.
COLLECTOR_VERSIONS := v0\.159\.0|v1\.65\.0
.PHONY: versions
versions:
	@others=$$(grep -nE '(go\.opentelemetry\.io/collector|opentelemetry-collector-contrib)[^ ]* v' \
		go.mod internal/tools/go.mod builder-config.yaml deploy/*.yaml | grep -vE ' ($(COLLECTOR_VERSIONS))( |$$)'); \
	if [ -n "$$others" ]; then echo "Other Collector versions than $(COLLECTOR_VERSIONS):"; echo "$$others"; exit 1; fi

# The kernel half is under another licence than the rest: each file says which.
.PHONY: licenses
licenses:
	@without=$$($(SOURCES) '*.go' ':!*/generated_*.go' | xargs -0 grep -sL '^// SPDX-License-Identifier: Apache-2\.0$$'; \
		$(SOURCES) '*.c' '*.h' | xargs -0 grep -sL '^/\* SPDX-License-Identifier: GPL-2\.0-only OR BSD-2-Clause \*/$$'); \
	if [ -n "$$without" ]; then echo "Without their line of licence:"; echo "$$without"; exit 1; fi

## fmt: format the Go code
.PHONY: fmt
fmt:
	$(LINT) fmt ./...

## clean: remove what was built
.PHONY: clean
clean:
	rm -rf build

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | awk '{ i = index($$0, ": "); printf "  make %-16s %s\n", substr($$0, 1, i - 1), substr($$0, i + 2) }'
