#!/usr/bin/env bash
# Fails if docs/demo.svg shows other commands than hack/picture runs, or
# commands that the plugin does not have: hack/update-picture.sh draws it anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! go run -tags kustomize_disable_go_plugin_support ./hack/picture -verify docs/demo.svg; then
  echo "docs/demo.svg is not up to date: run make k3s update" >&2
  exit 1
fi
