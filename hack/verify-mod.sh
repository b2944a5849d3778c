#!/usr/bin/env bash
# Fails if a module's requirements are not those of its code. The modules of the
# K3s server and the tools are left out: tidying downloads what they never build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for module in . test hack/docs; do
  if ! go -C "$module" mod tidy -diff; then
    echo "$module/go.mod or go.sum is not up to date: run make update" >&2
    exit 1
  fi
done
