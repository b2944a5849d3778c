#!/usr/bin/env bash
# The session that docs/demo.svg shows, on the server of KUBECONFIG.
set -euo pipefail
run() {
  printf '\n\033[32m$\033[0m \033[1mkubectl k3s-token %s\033[0m\n' "$1"
  eval "kubectl-k3s_token $1"
}
run 'create --ttl 2h --description "rack 7" --print-join-command \
    --url https://k3s.example.com:6443'
run list
run "delete $(kubectl-k3s_token list -o jsonpath='{.items[0].id}')"
