#!/usr/bin/env bash
# Fails if the plugin's requirements are not those of its code: hack/update-mod.sh
# writes them anew. The modules of the tools are not looked at: what their builds
# need is checked by building them, and the rest would only be downloaded for this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! go mod tidy -diff; then
  echo "go.mod or go.sum is not up to date: run make update" >&2
  exit 1
fi
