# Everything a developer runs. `make` alone says what there is.
# It needs Go, a C compiler (for the K3s test server's SQLite) and git.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO ?= go

# Should a dependency bring kustomize along, this tag keeps its plugin loader
# out, and with it 20 MB. Tests and linters take it too, so that what they look
# at is what is shipped.
TAGS := kustomize_disable_go_plugin_support

# The version is the last tag, the commit and whether something was changed.
# Without a tag it is the commit alone, without git nothing is known.
VERSION := $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)
# The commit's time, not the build's: the same source gives the same binary.
DATE    := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)

BINARY := bin/kubectl-k3s_token
TOOLS  := hack/tools/bin

##@ Build

# Go decides what has to be built again, and is quick to find that nothing has.
.PHONY: build
build: ## Build the plugin: bin/kubectl-k3s_token
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -tags $(TAGS) \
		-ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)' \
		-o $(BINARY) ./cmd/kubectl-k3stoken

.PHONY: snapshot
snapshot: $(TOOLS)/goreleaser ## Build archives and packages of this commit for all platforms: dist/
	$(TOOLS)/goreleaser release --snapshot --clean --skip=sign,sbom

# kubectl finds the plugin by the file's name, wherever on PATH it is.
PREFIX ?=
GOBIN_DIR = $(or $(shell $(GO) env GOBIN),$(shell $(GO) env GOPATH)/bin)
INSTALL_DIR = $(DESTDIR)$(or $(PREFIX:%=%/bin),$(GOBIN_DIR))
.PHONY: install
install: build ## Copy the plugin to $(PREFIX)/bin, or to Go's bin folder
	install -d $(INSTALL_DIR)
	install -m 0755 $(BINARY) $(INSTALL_DIR)/kubectl-k3s_token

.PHONY: clean
clean: ## Remove all that was built
	rm -rf bin dist hack/k3s/bin $(TOOLS)

##@ The K3s that tests and demo run on

.PHONY: k3s
k3s: hack/k3s/bin/k3s ## Build the K3s test server (5 to 15 minutes the first time)

.PHONY: rke2
rke2: hack/k3s/bin/rke2 ## Build the same server as RKE2 (20 seconds after k3s)

# Each program's version carries its name, which is how a client tells them apart.
K3S_VERSION = v1.31.1+$(if $(filter rke2,$*),rke2r1,k3s1)
K3S_TAGS := netcgo,osusergo,providerless,no_btrfs
# K3s refuses to start unless it was linked with the Go version that its release
# names, and its code asks for its own version in many places.
K3S_LDFLAGS = -s -w \
	-X github.com/k3s-io/k3s/pkg/version.Version=$(K3S_VERSION) \
	-X github.com/k3s-io/k3s/pkg/version.UpstreamGolang=$(shell $(GO) env GOVERSION) \
	-X k8s.io/component-base/version.gitVersion=$(K3S_VERSION) \
	-X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=31
K3S_SOURCES := $(wildcard hack/k3s/*.go) hack/k3s/go.mod hack/k3s/go.sum

# Even when nothing is to be done, linking 200 MB takes 20 seconds: let make
# decide. The stamp changes when the Go version or the flags do.
hack/k3s/bin/%: $(K3S_SOURCES) hack/k3s/bin/.stamp
	cd hack/k3s && CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -tags $(K3S_TAGS) \
		-ldflags '$(K3S_LDFLAGS) -X github.com/k3s-io/k3s/pkg/version.Program=$*' -o bin/$* .

.PHONY: FORCE
FORCE:
hack/k3s/bin/.stamp: FORCE
	@mkdir -p $(@D)
	@echo '$(K3S_TAGS) $(K3S_LDFLAGS)' | cmp -s - $@ || echo '$(K3S_TAGS) $(K3S_LDFLAGS)' > $@

.PHONY: demo
demo: build hack/k3s/bin/k3s ## Show the main job on a real K3s server (ARGS=--keep leaves it running)
	$(GO) run -tags $(TAGS) ./hack/demo $(ARGS)

##@ Test

# One after the other, cheapest first, also under make -j.
.PHONY: test
test: ## Run everything that a change has to pass
	$(MAKE) lint
	$(MAKE) test-unit
	$(MAKE) test-e2e

.PHONY: test-unit
test-unit: ## Run the tests that need no server, with the race detector
	$(GO) test -race -tags $(TAGS) ./cmd/... ./pkg/... ./hack/gendocs

# RUN selects tests: make test-e2e RUN=TestScripts/create
RUN ?= .
.PHONY: test-e2e
test-e2e: build hack/k3s/bin/k3s hack/k3s/bin/rke2 ## Run the tests on a real K3s server (RUN=pattern for some of them)
	K3STOKEN_E2E=1 $(GO) test -tags $(TAGS) -count=1 -p=2 -timeout=20m -run '$(RUN)' ./test/...

# What the tests do a few times: results are in docs/reliability.md.
CAMPAIGN ?= 200
.PHONY: campaign
campaign: build hack/k3s/bin/k3s ## Interrupt each command CAMPAIGN times (200) on a real K3s server
	K3STOKEN_E2E=1 K3STOKEN_CAMPAIGN=$(CAMPAIGN) $(GO) test -tags $(TAGS) -count=1 -timeout=2h -v -run '^TestInterrupted' ./test/e2e

# Nothing is published: the release is made of a copy of this tree, in a folder
# of its own.
.PHONY: test-release
test-release: release-tools hack/k3s/bin/k3s ## Make a release, and install it with krew (RUN=pattern for some of the tests)
	K3STOKEN_RELEASE=1 $(GO) test -tags $(TAGS) -count=1 -timeout=30m -run '$(RUN)' ./test/release

# go test takes one fuzz target of one package at a time.
FUZZTIME ?= 10s
.PHONY: fuzz
fuzz: hack/k3s/bin/k3s ## Fuzz each target for FUZZTIME (10s); one compares with K3s's own code
	@grep -rHoE --include='*_test.go' '^func Fuzz\w+' cmd pkg test | sed 's/:func / /' | while read -r file target; do \
		echo "$$target in $$(dirname "$$file")"; \
		$(GO) test -tags $(TAGS) -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

.PHONY: bench
bench: build hack/k3s/bin/k3s ## Compare with kubectl, the K3s CLI and raw requests on a real K3s server
	$(GO) build -trimpath -buildvcs=false -o bin/bench ./hack/bench
	bin/bench $(ARGS)

##@ Check

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run golangci-lint, go vet and hack/verify-*.sh
	$(GO) vet -tags $(TAGS) ./...
	$(TOOLS)/golangci-lint run ./...
	@for script in $(wildcard hack/verify-*.sh); do echo "$$script"; "$$script"; done

# Compiled as for a release, so that either can use what the other has cached.
PLATFORMS := darwin/amd64 darwin/arm64 linux/amd64 linux/arm linux/arm64 windows/amd64 windows/arm64
.PHONY: vet-all
vet-all: ## Run go vet for each platform that is released
	@failed=; for platform in $(PLATFORMS); do echo "$$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} GOARM=6 \
			$(GO) vet -trimpath -tags $(TAGS) ./... || failed=1; \
	done; [[ -z $$failed ]]

.PHONY: update
update: ## Write what is generated anew: run hack/update-*.sh
	@for script in $(wildcard hack/update-*.sh); do echo "$$script"; "$$script"; done

# The tools are pinned in a module of their own, whose requirements do not
# become the plugin's.
$(TOOLS)/golangci-lint: TOOL = github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/benchstat:     TOOL = golang.org/x/perf/cmd/benchstat
$(TOOLS)/govulncheck:   TOOL = golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/%: hack/tools/go.mod hack/tools/go.sum
	cd hack/tools && $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/$* $(TOOL)

# What makes and checks a release has a module to itself, since its requirements
# would change those of the linters.
RELEASE_TOOLS := $(TOOLS)/goreleaser $(TOOLS)/krew $(TOOLS)/validate-krew-manifest
$(TOOLS)/goreleaser:             TOOL = github.com/goreleaser/goreleaser/v2
$(TOOLS)/krew:                   TOOL = sigs.k8s.io/krew/cmd/krew
$(TOOLS)/validate-krew-manifest: TOOL = sigs.k8s.io/krew/cmd/validate-krew-manifest
$(RELEASE_TOOLS): $(TOOLS)/%: hack/tools/release/go.mod hack/tools/release/go.sum
	cd hack/tools/release && $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o ../bin/$* $(TOOL)

# These go with no other's requirements. Go checks the version that is named here
# against its checksum database.
$(TOOLS)/actionlint: TOOL = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
$(TOOLS)/cosign:     TOOL = github.com/sigstore/cosign/v3/cmd/cosign@v3.0.2
$(TOOLS)/syft:       TOOL = github.com/anchore/syft/cmd/syft@v1.38.0
$(TOOLS)/actionlint $(TOOLS)/cosign $(TOOLS)/syft:
	GOBIN=$(abspath $(TOOLS)) $(GO) install -trimpath -ldflags '-s -w' $(TOOL)

.PHONY: release-tools
release-tools: $(RELEASE_TOOLS)

.PHONY: vulncheck
vulncheck: $(TOOLS)/govulncheck ## Look for known vulnerabilities (asks a database on the network)
	$(TOOLS)/govulncheck -tags $(TAGS) ./...

##@ Help

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-zA-Z0-9_-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
