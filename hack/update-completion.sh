#!/usr/bin/env bash
# Writes the completion shim that releases ship, as `completion` prints it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shim=plugins/kubectl_complete-k3s_token
go run -tags kustomize_disable_go_plugin_support ./cmd/kubectl-k3stoken completion > "$shim"
chmod 755 "$shim"
