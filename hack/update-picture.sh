#!/usr/bin/env bash
# Draws docs/demo.svg anew, from a run of the plugin on a K3s server that it
# starts and stops: some ten seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ ! -x hack/k3s/bin/k3s ]]; then
  echo "docs/demo.svg is left as it is: run make k3s before" >&2
  exit 0
fi
make --silent build
go run -tags kustomize_disable_go_plugin_support ./hack/picture docs/demo.svg
chmod 0644 docs/demo.svg
