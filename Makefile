# Bare `make` lists the targets. All of them work offline once what they need is installed.

GO       ?= go
PYTHON   ?= python3
ROUNDS   ?= 50
FUZZTIME ?= 30s
TIMEOUT  ?= 20m
BENCH    ?=
PEERS    ?=
DELAY    ?=
ARGS     ?=

BINARY := build/standbyfs
VENV   := build/venv
LINT   := build/golangci-lint-v2.15.0

.PHONY: help build demo test check lint unit end-to-end soak bench fuzz clean venv fuse glusterfs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the program as build/standbyfs
	$(GO) build -o $(BINARY) ./cmd/standbyfs

demo: build venv fuse ## ZEO on a mirrored mount, its machine killed, a mirror promoted: a story of a minute
	$(VENV)/bin/python demo/demo.py $(BINARY) --logs build/demo-failure

test: check lint unit end-to-end ## everything: vet, gofmt, lint, all tests with the race detector, end to end with ZEO

check: ## go vet and gofmt
	$(GO) vet ./...
	@test -z "$$(gofmt -l .)" || { echo "not as gofmt writes it:"; gofmt -l .; exit 1; }

lint: $(LINT) ## golangci-lint, with the import rules of ARCHITECTURE.md
	$(LINT) run ./...

unit: fuse ## all tests but the rounds with ZEO, with the race detector (but for the model, which is one search)
	$(GO) test -timeout $(TIMEOUT) ./mirror/model
	$(GO) test -race -timeout $(TIMEOUT) $$($(GO) list ./... | grep -v -e /tests/zodb -e /mirror/model)

end-to-end: venv fuse ## rounds of kills under ZEO, with real processes
	$(GO) test -count=1 -timeout $(TIMEOUT) -v ./tests/zodb

soak: venv fuse ## the same for ROUNDS=50
	ROUNDS=$(ROUNDS) $(GO) test -count=1 -timeout 3h -v ./tests/zodb

bench: build venv fuse $(if $(PEERS),glusterfs) ## measure against other file systems: BENCH=full, PEERS=1, DELAY=1ms, ARGS=... (docs/performance.md)
	$(GO) build -o build/benchmark ./tests/bench
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
# module proxy into build/, and Debian's packages for Python's venv module.

venv: $(VENV)/.installed

$(VENV)/.installed: demo/requirements.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "installing python3-venv"; apt-get update -q && apt-get install -y -q python3-venv; }
	@echo "installing ZEO and ZODB into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r demo/requirements.txt
	@touch $@

fuse:
	@test -c /dev/fuse || modprobe fuse || { echo "no /dev/fuse: this kernel needs the fuse module"; exit 1; }

glusterfs:
	@command -v glusterd >/dev/null || { \
		echo "installing glusterfs-server"; apt-get update -q && apt-get install -y -q glusterfs-server; }

$(LINT):
	@echo "installing golangci-lint into build/ (two minutes, once)"
	GOBIN=$(CURDIR)/build/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv build/bin/golangci-lint $@
