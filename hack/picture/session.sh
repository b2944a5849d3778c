#!/usr/bin/env bash
# The session that docs/demo.svg shows, on the server of KUBECONFIG. The line for the
# new machine is pasted there: $NEW_MACHINE. The terminal has 92 columns.
set -euo pipefail
prompt() { printf '\n\033[32m$\033[0m \033[1m%s\033[0m\n' "$1"; }

create='create --ttl 1h --wait --delete-after-join --print-join-command=agent'
prompt "kubectl k3s-token $create"
# shellcheck disable=SC2086 # words
kubectl-k3s_token $create 2>&1 | tee "$NEW_MACHINE" | fold --width=92
prompt 'kubectl get nodes'
kubectl get nodes
