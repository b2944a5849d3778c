#!/usr/bin/env bash
# Fails if the completion shims that releases ship are not what `completion`
# prints, or no programs: hack/update-completion.sh writes them anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shims=$(mktemp -d)
trap 'rm -rf "$shims"' EXIT
go run -tags kustomize_disable_go_plugin_support ./hack/completion "$shims"
for shim in kubectl_complete-k3s_token kubectl_complete-k3s_token.cmd; do
  if ! [[ -x plugins/$shim ]] || ! diff -u "plugins/$shim" "$shims/$shim"; then
    echo "plugins/$shim is not up to date: run make update" >&2
    exit 1
  fi
done
