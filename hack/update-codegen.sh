#!/usr/bin/env bash
# Writes the DeepCopy methods of the kinds anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make --silent hack/tools/bin/deepcopy-gen
hack/tools/bin/deepcopy-gen --go-header-file /dev/null --output-file zz_generated.deepcopy.go ./pkg/api/v1alpha1
