#!/usr/bin/env bash
# Fails if docs/commands or docs/output.md are not what hack/update-docs.sh writes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
hack/update-docs.sh "$pages"
if ! diff -ruN docs/commands "$pages/commands" || ! diff -u docs/output.md "$pages/output.md"; then
  echo "docs/commands or docs/output.md are not up to date: run make update" >&2
  exit 1
fi
