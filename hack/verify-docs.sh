#!/usr/bin/env bash
# Fails if docs/commands or docs/man do not say what the commands' own help
# says: hack/update-docs.sh writes them anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
go run -tags kustomize_disable_go_plugin_support ./hack/gendocs "$pages"
status=0
for folder in commands man; do
  diff -ruN "docs/$folder" "$pages/$folder" || status=1
done
if ((status)); then
  echo "docs/commands or docs/man are not up to date: run make update" >&2
fi
exit "$status"
