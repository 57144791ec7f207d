# kiln: two commands do everything, on a fresh Debian machine with Go.
#
#   make demo   bakes a node image, boots it in a virtual machine and shows the cluster that it became
#   make test   sets up and runs every test that this machine can run
#
# KILN_CACHE=DIR puts the cache of build parts elsewhere than ~/.cache/kiln.

# The host packages, all of them. Everything that shapes bytes comes from the image's own Debian release instead.
# haproxy, iproute2 and nftables are for the rung of whole clusters: the load balancer and the wires between the nodes.
HOST_PACKAGES := mmdebstrap uidmap debian-archive-keyring gcc libc6-dev haproxy iproute2 nftables dnsmasq-base

GO      ?= go
GOFLAGS := -trimpath -buildvcs=false
export GOTOOLCHAIN ?= local

# What a rung prints, and at its end once more why it failed. It fails when a test did.
RECAP := $(GO) run ./test/recap

# A pipe fails when any of its programs does.
SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c

RELEASE := v1.36
BUILD   := vm-disk --profile control-plane --release $(RELEASE)
DEMO    := out/demo
PORT    ?= 16443

.PHONY: help deps build demo demo-stop demo-ha test test-unit test-tools test-vm test-cluster test-full bench clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install the host packages that are missing
	@missing=; for p in $(HOST_PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  echo "==> installing$$missing"; \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

build: ## build bin/kiln and bin/firstboot
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build $(GOFLAGS) -o bin/kiln ./builder
	CGO_ENABLED=0 $(GO) build $(GOFLAGS) -ldflags '-s -w' -o bin/firstboot ./firstboot

demo: deps build ## bake an image, boot it, and show the cluster it became
	bin/kiln build $(BUILD) -o $(DEMO)/image
	bin/kiln identity new demo --address 10.0.2.15 --endpoint 10.0.2.15:6443 --certificate-name 127.0.0.1 \
	  --server https://127.0.0.1:$(PORT) -o $(DEMO)/identity
	@if [ -d $(DEMO)/machine ]; then bin/kiln vm stop $(DEMO)/machine 2>/dev/null || true; rm -rf $(DEMO)/machine; fi
	bin/kiln vm $(DEMO)/image --identity $(DEMO)/identity/config.ign --data $(DEMO)/machine --api-port $(PORT) --detach --wait ready
	@kubectl="$$(bin/kiln binary kubectl --release $(RELEASE))"; export KUBECONFIG=$(DEMO)/identity/admin.conf; \
	"$$kubectl" wait --for=condition=Ready pods --all --all-namespaces --timeout=15m; \
	printf '\n'; "$$kubectl" get nodes -o wide; printf '\n'; "$$kubectl" get pods -A; \
	printf '\nLook inside:  KUBECONFIG=%s %s describe node demo\n' $(DEMO)/identity/admin.conf "$$kubectl"; \
	printf 'Its console:  tail -f %s/console.log\n' $(DEMO)/machine; \
	printf 'Stop it:      make demo-stop\n'

demo-stop: ## stop the demo's virtual machine and forget it
	@bin/kiln vm stop $(DEMO)/machine || true
	rm -rf $(DEMO)/machine $(DEMO)/identity

demo-ha: deps build ## three control planes and two workers behind a load balancer, in namespaces of this machine (needs root)
	bin/kiln build vm-disk --profile control-plane --release $(RELEASE) -o out/cp
	bin/kiln build vm-disk --profile worker --release $(RELEASE) -o out/worker
	@mkdir -p out/demo-ha
	@rm -f out/demo-ha/cluster.yaml
	bin/kiln cluster new demo-ha -o out/demo-ha/cluster.yaml
	sed -i 's/ 10\.0\.0\./ 10.77.0./' out/demo-ha/cluster.yaml
	bin/kiln cluster render out/demo-ha/cluster.yaml -o out/demo-ha/identities
	$(GO) build -o out/demo-ha/demo ./test/demo
	out/demo-ha/demo -identities out/demo-ha/identities -parts "$$(bin/kiln cache path)/parts" -dir out/demo-ha/machines \
	  -control-plane out/cp -worker out/worker

test: deps build test-unit test-tools test-vm test-cluster ## run every test that this machine can run

test-unit: ## documents, plans, goldens, walls: no root, no network, under a minute
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags tools,machine,cluster ./test/...
	$(GO) vet -tags tools,machine,cluster,full ./test/...
	$(GO) test ./...

test-tools: deps build ## build the image twice, verify it, break it; ask the cluster's own programs about what is written for them
	KILN_KUBERNETES="$$(dirname "$$(bin/kiln binary kubeadm --release $(RELEASE))"):$$(dirname "$$(bin/kiln binary etcd --release $(RELEASE))")" \
	  $(GO) test -count=1 -p 1 -run TestReal -json ./firstboot/kubeadm ./firstboot/etcd ./firstboot/endpoint ./firstboot/node | $(RECAP)
	KILN_IGNITION="$$(bin/kiln binary ignition --release $(RELEASE))" $(GO) test -count=1 -run TestRealEngine -json ./firstboot/ignition | $(RECAP)
	$(GO) test -count=1 -tags tools -timeout 45m -json ./test/tools | $(RECAP)

test-vm: deps build ## boot the image in a virtual machine and compare the node with its release
	$(GO) test -count=1 -tags machine -timeout 80m -json ./test/vm | $(RECAP)

test-cluster: deps build ## boot whole clusters of real nodes in namespaces of this machine, and mistreat them
	$(GO) test -count=1 -tags cluster -timeout 30m -json ./test/cluster | $(RECAP)

test-full: deps build ## everything of make test, and the boots too long for it: power cuts within kubeadm's run, faults of clusters
	$(GO) test -count=1 -tags tools -timeout 45m -json ./test/tools | $(RECAP)
	$(GO) test -count=1 -tags machine,full -timeout 240m -json ./test/vm | $(RECAP)
	$(GO) test -count=1 -tags cluster,full -timeout 90m -json ./test/cluster | $(RECAP)

bench: deps build ## print the table of times and sizes
	$(GO) run ./test/bench

clean: ## remove what make built here; the cache of parts stays
	rm -rf bin out
