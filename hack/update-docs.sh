#!/usr/bin/env bash
# Writes docs/commands and docs/man anew, from the commands' own help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
go run -tags kustomize_disable_go_plugin_support ./hack/gendocs "$pages"
mkdir -p docs/commands docs/man
rm -f docs/commands/*.md docs/man/*.1
install -m 0644 "$pages"/commands/*.md docs/commands
install -m 0644 "$pages"/man/*.1 docs/man
