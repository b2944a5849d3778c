#!/usr/bin/env bash
# Writes the requirements of each Go module anew, from what the code imports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for module in . hack/k3s hack/tools hack/tools/release; do
  (cd "$module" && go mod tidy)
done
