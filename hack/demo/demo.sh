#!/usr/bin/env bash
# The plugin's main job on a real K3s server: `make demo`. With --keep the server
# runs on until Ctrl-C.
set -euo pipefail
# kubectl, if there is one, finds the plugin on its PATH.
plugin=(kubectl-k3s_token)
if command -v kubectl > /dev/null; then plugin=(kubectl k3s-token); fi

show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

create=("${plugin[@]}" create --ttl 2h --description worker-7 --print-join-command=agent)
if [[ -v NEW_MACHINE ]]; then create+=(--wait); fi
printf '$ %s\n' "${create[*]}"
# A new machine, if there is one, runs the command that is printed.
"${create[@]}" | tee "${NEW_MACHINE:-/dev/null}"
show "${plugin[@]}" list
show "${plugin[@]}" delete "$(kubectl-k3s_token list -o jsonpath='{.items[0].id}')"
show "${plugin[@]}" list
if [[ -v NEW_MACHINE ]] && command -v kubectl > /dev/null; then show kubectl get nodes; fi
if [[ ${1:-} == --keep ]]; then
  printf '\nThe server runs until you press Ctrl-C. In another terminal:\n\n  export KUBECONFIG=%q PATH=%q:$PATH\n\n' \
    "$KUBECONFIG" "$(dirname "$(command -v kubectl-k3s_token)")"
  trap 'exit 0' INT TERM
  while :; do sleep 1; done
fi
