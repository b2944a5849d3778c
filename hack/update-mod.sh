#!/usr/bin/env bash
# Writes the requirements of each Go module anew, from what its code imports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for module in . test hack/docs hack/k3s hack/tools hack/tools/release; do
  go -C "$module" mod tidy
done
