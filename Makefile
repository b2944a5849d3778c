# Everything that a developer runs. `make` alone lists the main targets.
# It needs Go, git and a C compiler (for the K3s test server's SQLite).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO ?= go

# cli-runtime links kustomize. This tag leaves out its plugin loader, and 20 MB
# with it. Tests and linters take it too, to look at what is shipped.
TAGS := kustomize_disable_go_plugin_support

VERSION := $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)
# The commit's time, not the build's: the same source gives the same binary.
DATE    := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)

BINARY := bin/kubectl-k3s_token
TOOLS  := hack/tools/bin

# The plugin, its tests on a real server, and the generator of its documents.
MODULES := . test hack/docs

# K3S=/path/to/k3s takes a K3s of your own for the demo and the tests, in place of
# the one that is built here.
override K3S := $(abspath $(K3S))
export K3S

# Go decides what has to be built again.
.PHONY: build
build: ## Build the plugin: bin/kubectl-k3s_token
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -tags $(TAGS) \
		-ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)' \
		-o $(BINARY) ./cmd/kubectl-k3stoken

.PHONY: demo
demo: build $(if $(K3S),,k3s) ## Show the main job on a real K3s; ARGS=--keep leaves it running
	cd test && $(GO) run -tags $(TAGS) ./cmd/withk3s ../hack/demo/demo.sh $(ARGS)

# One after the other, cheapest first, also under make -j.
.PHONY: test
test: ## Run all that a change has to pass: lint, unit tests, tests on a real K3s server
	$(MAKE) lint
	$(MAKE) test-unit
	$(MAKE) test-e2e

.PHONY: test-unit
test-unit:
	$(GO) test -race -tags $(TAGS) -timeout=5m ./cmd/... ./pkg/...

# RUN selects tests: make test-e2e RUN=TestScripts/create
RUN ?= .
.PHONY: test-e2e
test-e2e: build $(if $(K3S),,k3s rke2)
	cd test && K3STOKEN_E2E=1 $(GO) test -tags $(TAGS) -count=1 -p=2 -timeout=20m -run '$(RUN)' ./...

# Repeats CAMPAIGN times what the tests do a few times, such as interrupts.
CAMPAIGN ?= 200
.PHONY: campaign
campaign: build k3s
	cd test && K3STOKEN_E2E=1 K3STOKEN_CAMPAIGN=$(CAMPAIGN) $(GO) test -tags $(TAGS) -count=1 -timeout=3h -v \
		-run '^Test(Interrupted|AServerThatIsKilled|RotateNeverLoses)' ./e2e

# Go fuzzes one target of one package at a time.
FUZZTIME ?= 10s
.PHONY: fuzz
fuzz: k3s
	@grep -rHoE --include='*_test.go' '^func Fuzz\w+' cmd pkg test | sed 's/:func / /' | while read -r file target; do \
		echo "$$target in $$(dirname "$$file")"; \
		$(GO) -C "$$(dirname "$$file")" test -tags $(TAGS) -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) . </dev/null; \
	done

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run go vet, golangci-lint and hack/verify-*.sh
	@for module in $(MODULES); do echo "lint $$module"; \
		(cd $$module && $(GO) vet -tags $(TAGS) ./... && $(abspath $(TOOLS))/golangci-lint run ./...); \
	done
	@for script in hack/verify-*.sh; do echo "$$script"; "$$script"; done

# Compiled as for a release, so that either can use what the other has cached.
PLATFORMS := darwin/amd64 darwin/arm64 linux/amd64 linux/arm linux/arm64 windows/amd64 windows/arm64
.PHONY: vet-all
vet-all:
	@failed=; for platform in $(PLATFORMS); do echo "$$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} GOARM=6 \
			$(GO) vet -trimpath -tags $(TAGS) ./... || failed=1; \
	done; [[ -z $$failed ]]

# Writes what is generated anew.
.PHONY: update
update:
	@for script in hack/update-*.sh; do echo "$$script"; "$$script"; done

.PHONY: vulncheck
vulncheck: $(TOOLS)/govulncheck
	$(TOOLS)/govulncheck -tags $(TAGS) ./...

.PHONY: bench
bench: build $(if $(K3S),,k3s) ## Compare with kubectl, k3s token and curl on a real K3s server
	cd test && $(GO) run -tags $(TAGS) ./cmd/withk3s ../hack/bench.sh

# kubectl finds the plugin by the file's name, wherever on PATH it is.
PREFIX ?=
GOBIN_DIR = $(or $(shell $(GO) env GOBIN),$(shell $(GO) env GOPATH)/bin)
INSTALL_DIR = $(DESTDIR)$(or $(PREFIX:%=%/bin),$(GOBIN_DIR))
.PHONY: install
install: build ## Copy the plugin to PREFIX/bin, or to Go's bin folder
	install -d $(INSTALL_DIR)
	install -m 0755 $(BINARY) $(INSTALL_DIR)/kubectl-k3s_token

# Nothing is published: the release is made of a copy of this tree.
.PHONY: release-test
release-test: release-tools $(if $(K3S),,k3s) ## Make a release, and install it with krew
	cd test && K3STOKEN_RELEASE=1 $(GO) test -tags $(TAGS) -count=1 -timeout=30m -run '$(RUN)' ./release

# Archives and packages of this commit: dist/
.PHONY: snapshot
snapshot: $(TOOLS)/goreleaser
	$(TOOLS)/goreleaser release --snapshot --clean --skip=sign,sbom

.PHONY: clean
clean:
	rm -rf bin dist hack/k3s/bin $(TOOLS)

# The K3s that demo and tests run on, and the same server as RKE2: linking that
# takes 20 seconds more.
.PHONY: k3s rke2
k3s: hack/k3s/bin/k3s
rke2: hack/k3s/bin/rke2

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

# Linking 200 MB takes 20 seconds even if nothing has changed: let make decide.
# The stamp changes when the Go version or the flags do.
hack/k3s/bin/%: $(K3S_SOURCES) hack/k3s/bin/.stamp
	@echo "Building $* in hack/k3s; a second build takes seconds."
	@cd hack/k3s && CGO_ENABLED=1 $(GO) build -v -trimpath -buildvcs=false -tags $(K3S_TAGS) \
		-ldflags '$(K3S_LDFLAGS) -X github.com/k3s-io/k3s/pkg/version.Program=$*' -o bin/$* . \
		2>&1 | ../count-packages.sh $* '5 to 15 minutes'

.PHONY: FORCE
FORCE:
hack/k3s/bin/.stamp: FORCE
	@mkdir -p $(@D)
	@echo '$(K3S_TAGS) $(K3S_LDFLAGS)' | cmp -s - $@ || echo '$(K3S_TAGS) $(K3S_LDFLAGS)' > $@

# The tools are pinned in modules of their own, whose requirements do not become
# the plugin's.
$(TOOLS)/golangci-lint: TOOL = github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/govulncheck:   TOOL = golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/%: hack/tools/go.mod hack/tools/go.sum
	cd hack/tools && $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/$* $(TOOL)

# The requirements of these would change those of the linters.
RELEASE_TOOLS := $(TOOLS)/goreleaser $(TOOLS)/krew $(TOOLS)/validate-krew-manifest
$(TOOLS)/goreleaser:             TOOL = github.com/goreleaser/goreleaser/v2
$(TOOLS)/krew:                   TOOL = sigs.k8s.io/krew/cmd/krew
$(TOOLS)/validate-krew-manifest: TOOL = sigs.k8s.io/krew/cmd/validate-krew-manifest
$(RELEASE_TOOLS): $(TOOLS)/%: hack/tools/release/go.mod hack/tools/release/go.sum
	cd hack/tools/release && $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o ../bin/$* $(TOOL)

.PHONY: release-tools
release-tools: $(RELEASE_TOOLS)

# These go with no other's requirements. Go checks the version that is named here
# against its checksum database.
GO_INSTALLED := $(TOOLS)/actionlint $(TOOLS)/cosign $(TOOLS)/deepcopy-gen $(TOOLS)/freeze $(TOOLS)/syft
$(TOOLS)/actionlint:   TOOL = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
$(TOOLS)/cosign:       TOOL = github.com/sigstore/cosign/v3/cmd/cosign@v3.0.2
$(TOOLS)/deepcopy-gen: TOOL = k8s.io/code-generator/cmd/deepcopy-gen@v0.37.2
$(TOOLS)/freeze:       TOOL = github.com/charmbracelet/freeze@v0.2.2
$(TOOLS)/syft:         TOOL = github.com/anchore/syft/cmd/syft@v1.38.0
$(GO_INSTALLED):
	GOBIN=$(abspath $(TOOLS)) $(GO) install -trimpath -ldflags '-s -w' $(TOOL)

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
