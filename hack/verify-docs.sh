#!/usr/bin/env bash
# Fails if docs/commands does not say what the commands' own help says:
# hack/update-docs.sh writes it anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
go run -tags kustomize_disable_go_plugin_support ./hack/gendocs "$pages"
if ! diff -ru docs/commands "$pages"; then
  echo "docs/commands is not up to date: run make update" >&2
  exit 1
fi
