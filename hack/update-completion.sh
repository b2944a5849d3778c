#!/usr/bin/env bash
# Writes the completion shims that releases ship, as `completion` prints them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go run -tags kustomize_disable_go_plugin_support ./hack/completion plugins
chmod 755 plugins/kubectl_complete-k3s_token plugins/kubectl_complete-k3s_token.cmd
