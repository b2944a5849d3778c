#!/usr/bin/env bash
# Writes docs/commands and docs/output.md anew, from the commands' own help and
# the comments of the kinds; into another folder than docs if one is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(realpath "${1:-docs}")
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
go -C hack/docs run -tags kustomize_disable_go_plugin_support . -markdown "$pages"
rm -f "$folder"/commands/*.md
cp -r "$pages"/. "$folder"
