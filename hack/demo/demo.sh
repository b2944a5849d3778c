#!/usr/bin/env bash
# The plugin's main job on a real K3s server: `make demo`. With --keep the server
# runs on until Ctrl-C.
set -euo pipefail
# kubectl, if there is one, finds the plugin on its PATH.
plugin=(kubectl-k3s_token)
if command -v kubectl > /dev/null; then plugin=(kubectl k3s-token); fi

# show shows a command and what it prints, which is then in $printed.
show() {
  echo "$ ${plugin[*]} $*"
  printed=$("${plugin[@]}" "$@")
  printf '%s\n\n' "$printed"
}

show create --ttl 2h --description worker-7
credentials=${printed#*::}
show list
show delete "${credentials%%.*}"
show list
if [[ ${1:-} == --keep ]]; then
  printf 'The server runs until you press Ctrl-C. In another terminal:\n\n  export KUBECONFIG=%q PATH=%q:$PATH\n\n' \
    "$KUBECONFIG" "$(dirname "$(command -v kubectl-k3s_token)")"
  trap 'exit 0' INT TERM
  while :; do sleep 1; done
fi
