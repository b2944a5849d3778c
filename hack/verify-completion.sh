#!/usr/bin/env bash
# Fails if the completion shim that releases ship is not what `completion`
# prints, or no program: hack/update-completion.sh writes it anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shim=plugins/kubectl_complete-k3s_token
if ! [[ -x $shim ]] ||
  ! go run -tags kustomize_disable_go_plugin_support ./cmd/kubectl-k3stoken completion | diff -u "$shim" -; then
  echo "$shim is not up to date: run make update" >&2
  exit 1
fi
