#!/usr/bin/env bash
# Writes docs/commands and docs/output.md anew, from the commands' own help and
# the comments of the kinds; into another folder than docs if one is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(realpath "${1:-docs}")
rm -f "$folder"/commands/*.md
go -C hack/docs run -tags kustomize_disable_go_plugin_support . -markdown "$folder"
