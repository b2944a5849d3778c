#!/usr/bin/env bash
# Fails if a module's requirements are not those of its code: hack/update-mod.sh
# writes them anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for module in . hack/k3s hack/tools; do
  if ! (cd "$module" && go mod tidy -diff); then
    echo "$module/go.mod or go.sum is not up to date: run make update" >&2
    exit 1
  fi
done
