#!/usr/bin/env bash
# Fails if the DeepCopy methods are not what hack/update-codegen.sh writes. The
# generator writes in place, so the file is put back.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
file=pkg/api/v1alpha1/zz_generated.deepcopy.go
before=$(mktemp)
cp -p "$file" "$before"
trap 'mv "$before" "$file"' EXIT
hack/update-codegen.sh
if ! diff -u "$before" "$file"; then
  echo "$file is not up to date: run make update" >&2
  exit 1
fi
