#!/usr/bin/env bash
# The plugin's main job on a real K3s server: `make demo`. With --keep the server
# runs on until Ctrl-C.
set -euo pipefail

show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

create=(kubectl k3s-token create --ttl 2h --description worker-7 --print-join-command=agent)
if [[ -v NEW_MACHINE ]]; then create+=(--wait); fi
printf '$ %s\n' "${create[*]}"
# A new machine, if there is one, runs the command that is printed.
"${create[@]}" | tee "${NEW_MACHINE:-/dev/null}"
show kubectl k3s-token list
show kubectl k3s-token delete "$(kubectl k3s-token list -o jsonpath='{.items[0].id}')"
show kubectl k3s-token list
if [[ -v NEW_MACHINE ]]; then show kubectl get nodes; fi
if [[ ${1:-} == --keep ]]; then
  printf '\nThe server runs until you press Ctrl-C. In another terminal:\n\n  export KUBECONFIG=%q PATH=%q:$PATH\n\n' \
    "$KUBECONFIG" "$(dirname "$(command -v kubectl-k3s_token)")"
  trap 'exit 0' INT TERM
  while :; do sleep 1; done
fi
