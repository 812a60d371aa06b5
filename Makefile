# Bare `make` lists the targets. All of them work offline once what they need is installed.

GO       ?= go
PYTHON   ?= python3
ROUNDS   ?= 50
FUZZTIME ?= 30s
TIMEOUT  ?= 20m
TIMES    ?= 1
FILES    ?= 1000000
BENCH    ?=
PEERS    ?=
DELAY    ?=
ARGS     ?=

BINARY := build/standbyfs
VENV   := build/venv
SUITES := build/suites
LINT   := build/golangci-lint-v2.15.0

.PHONY: help build demo test check lint unit end-to-end soak bench fuzz suites clean venv fuse benchmark glusterfs suites-installed suite-programs disk-programs servers-installed

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the program as build/standbyfs
	$(GO) build -o $(BINARY) ./cmd/standbyfs

demo: build venv fuse ## ZEO on a mirrored mount, its machine killed, a mirror promoted: a story of a minute
	$(VENV)/bin/python demo/demo.py $(BINARY) --logs build/demo-failure

test: check lint unit suites end-to-end ## everything: vet, gofmt, lint, all tests with the race detector, others' suites, end to end with servers

check: ## go vet and gofmt
	$(GO) vet ./...
	@test -z "$$(gofmt -l .)" || { echo "not as gofmt writes it:"; gofmt -l .; exit 1; }

lint: $(LINT) ## golangci-lint, with the import rules of ARCHITECTURE.md
	$(LINT) run ./...

unit: fuse disk-programs ## all tests but the suites and those with servers, with the race detector (but for the model, which is one search, and simulated nodes)
	$(GO) test -timeout $(TIMEOUT) ./mirror/model
	$(GO) test -timeout $(TIMEOUT) -run '^Test(Simulation|SimulationNotices|Traces)$$' ./daemon
	$(GO) test -race -timeout $(TIMEOUT) $$($(GO) list ./... | grep -v -e /tests/zodb -e /tests/servers -e /tests/suites -e /mirror/model)

end-to-end: servers-installed fuse ## rounds of kills under ZEO and other servers, with real processes; ZODB's and ZEO's own tests
	$(GO) test -count=1 -timeout $(TIMEOUT) -v ./tests/zodb
	$(GO) test -count=1 -timeout $(TIMEOUT) -v ./tests/servers

suites: suites-installed ## suites that others wrote, on mounts of each kind; TIMES=10 for longer
	TIMES=$(TIMES) $(GO) test -count=1 -timeout 3h ./tests/suites

soak: servers-installed suites-installed benchmark ## a million files (FILES), suites ten times as long (TIMES), ROUNDS=50 of kills, 10 GB: hours
	FILES=$(FILES) $(GO) test -count=1 -timeout 3h -v -run '^(TestForget|TestLargeDirectory|TestNothingGrows|TestStartUp)$$' ./fs ./tests/growth
	TIMES=$(if $(filter 1,$(TIMES)),10,$(TIMES)) $(GO) test -count=1 -timeout 9h -v ./tests/suites
	ROUNDS=$(ROUNDS) $(GO) test -count=1 -timeout 3h -v ./tests/zodb
	ROUNDS=$(ROUNDS) $(GO) test -count=1 -timeout 3h -v ./tests/power
	ROUNDS=$(ROUNDS)00 $(GO) test -count=1 -timeout 3h -v -run '^TestSimulation$$' ./daemon
	ROUNDS=$(ROUNDS)0 $(GO) test -count=1 -timeout 3h -v -run '^TestRandomKills$$' ./tests/cluster
	ROUNDS=$(ROUNDS) LONG=1 $(GO) test -count=1 -timeout 5h -v ./tests/servers
	build/benchmark -soak

bench: benchmark servers-installed $(if $(PEERS),glusterfs) ## measure against other file systems: BENCH=full, PEERS=1, DELAY=1ms, ARGS=... (docs/performance.md)
	build/benchmark $(if $(filter full,$(BENCH)),-full) $(if $(PEERS),-peers) $(if $(DELAY),-delay $(DELAY)) $(ARGS)

fuzz: ## fuzz every decoder for FUZZTIME=30s each
	@for package in $$($(GO) list ./...); do \
		for name in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

clean: ## remove build/
	rm -rf build

# What has to be installed is installed here, and only when it is not there:
# ZEO and what it needs from PyPI into build/venv, golangci-lint from the Go
# module proxy into build/, and Debian's packages for Python's venv module and
# for the servers that tests/servers runs.

venv: $(VENV)/.installed

$(VENV)/.installed: demo/requirements.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "installing python3-venv"; apt-get update -q && apt-get install -y -q python3-venv; }
	@echo "installing ZEO and ZODB into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r demo/requirements.txt
	@touch $@

servers-installed: venv $(VENV)/.servers
	@tests/servers/install.sh

$(VENV)/.servers: tests/servers/requirements.txt $(VENV)/.installed
	@echo "installing LMDB and what runs ZODB's tests into $(VENV)"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

suites-installed: fuse suite-programs $(SUITES)/bin/pjdfstest $(SUITES)/bin/fsx $(SUITES)/bin/test_syscalls

suite-programs:
	@set -e; for pair in stress-ng:stress-ng fio:fio setpriv:util-linux gcc:gcc xz:xz-utils; do \
		command -v $${pair%:*} >/dev/null || { echo "installing $${pair#*:}"; \
			apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q $${pair#*:}; }; \
	done

# For tests on file systems whose files can share data.
disk-programs:
	@set -e; for pair in mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs; do \
		command -v $${pair%:*} >/dev/null || { echo "installing $${pair#*:}"; \
			apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q $${pair#*:}; }; \
	done

# They need Rust 1.85. Debian 12 has that as cargo-web, later ones as cargo.
$(SUITES)/bin/pjdfstest: VERSION = 0.2.2
$(SUITES)/bin/fsx: VERSION = 0.3.2
$(SUITES)/bin/pjdfstest $(SUITES)/bin/fsx:
	@command -v cargo >/dev/null || { echo "installing cargo"; \
		apt-get update -q && { apt-get install -y -q cargo-web || apt-get install -y -q cargo; }; }
	@echo "building $(@F) into $(SUITES)"
	cargo install --quiet --root $(SUITES) --version =$(VERSION) --locked $(@F)

# libfuse's own test program is in no package, but in a package's source. The
# machine's lists of sources stay as they are: a list beside them, made from
# what they name, is used this once.
$(SUITES)/bin/test_syscalls:
	@echo "building test_syscalls from Debian's source package fuse3"
	@command -v gcc >/dev/null && echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || { \
		apt-get update -q && apt-get install -y -q gcc libc6-dev; }
	@mkdir -p $(SUITES)/fuse3/lists/partial $(SUITES)/bin
	@apt-get update -q
	@apt-get indextargets 'Origin: Debian' 'Identifier: Packages' \
		--format 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $$(REPO_URI) $$(RELEASE) $$(COMPONENT)' \
		> $(SUITES)/fuse3/sources.list
	@cd $(SUITES)/fuse3 && for step in update 'source --download-only fuse3'; do \
		apt-get -q -o Dir::Etc::sourcelist=$$PWD/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$$PWD/lists \
			-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= $$step || exit 1; done
	@cd $(SUITES)/fuse3 && tar -xf fuse3_*.orig.tar.xz --strip-components=2 --wildcards '*/test/test_syscalls.c' && \
		echo '#define HAVE_COPY_FILE_RANGE 1' > fuse_config.h
	gcc -O1 -I $(SUITES)/fuse3 -o $@ $(SUITES)/fuse3/test_syscalls.c

fuse:
	@test -c /dev/fuse || modprobe fuse || { echo "no /dev/fuse: this kernel needs the fuse module"; exit 1; }

benchmark: build fuse
	$(GO) build -o build/benchmark ./tests/bench

glusterfs:
	@command -v glusterd >/dev/null || { \
		echo "installing glusterfs-server"; apt-get update -q && apt-get install -y -q glusterfs-server; }

$(LINT):
	@echo "installing golangci-lint into build/ (two minutes, once)"
	GOBIN=$(CURDIR)/build/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv build/bin/golangci-lint $@
