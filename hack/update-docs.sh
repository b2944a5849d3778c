#!/usr/bin/env bash
# Writes docs/commands anew, from the commands' own help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
go run -tags kustomize_disable_go_plugin_support ./hack/gendocs "$pages"
mkdir -p docs/commands
rm -f docs/commands/*.md
install -m 0644 "$pages"/*.md docs/commands
