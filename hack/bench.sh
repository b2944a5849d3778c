#!/usr/bin/env bash
# Compares the plugin with kubectl, k3s token and curl on a real K3s server: make
# bench, which starts one. Whole processes are timed, in turns, so that a busy
# moment of the machine meets all of them. It prints medians, and the plugin's as
# a part of each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v hyperfine > /dev/null; then
  echo "hyperfine is missing: apt-get install hyperfine, or brew install hyperfine" >&2
  exit 1
fi
: "${K3S_DATA_DIR:?run make bench, which starts a server}"
results=$(mktemp)
trap 'rm -f "$results"' EXIT

plugin=$(command -v kubectl-k3s_token)
k3s=$(command -v k3s)
kubectl=$(command -v kubectl || true)
tls=$K3S_DATA_DIR/server/tls
curl="curl -sf --cacert $tls/server-ca.crt --cert $tls/client-admin.crt --key $tls/client-admin.key"
api=$K3S_URL/api/v1/namespaces/kube-system

# compare WORK TURNS PREPARE, then NAME and COMMAND of each contender, the plugin
# first. PREPARE is run before each of them, and not timed.
compare() {
  local work=$1 turns=$2 prepare=$3 commands=() number=0
  shift 3
  while (($#)); do
    commands+=(--command-name "$((++number))$1" "$2")
    shift 2
  done
  for ((turn = 0; turn < turns; turn++)); do
    # After a headline, each line starts with a name and its time in seconds.
    hyperfine --shell=none --style=none --runs 1 ${prepare:+--prepare "$prepare"} \
      --export-csv "$results" "${commands[@]}" > /dev/null
    tail -n +2 "$results"
  done | sort --field-separator=, --key=1,1 --key=2,2g | awk -F, -v work="$work" -v middle="$(((turns + 1) / 2))" '
    ++seen[$1] == middle {
      if (!plugin) plugin = $2
      printf "%-20s %-24s %9.1f ms %9.2f\n", work, substr($1, 2), 1000 * $2, plugin / $2
    }'
}

# fill COUNT leaves the cluster with that many tokens.
fill() {
  "$plugin" delete --all --yes &> /dev/null
  if (($1 > 0)); then "$plugin" create --ttl 1h --count "$1" > /dev/null; fi
}

# compare_lists WORK TURNS
compare_lists() {
  compare "$1" "$2" "" plugin "$plugin list" \
    ${kubectl:+kubectl "$kubectl get secrets -n kube-system --field-selector type=bootstrap.kubernetes.io/token"} \
    "k3s token" "$k3s token list" \
    curl "$curl $api/secrets?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken"
}

printf '%-20s %-24s %12s %9s\n' WORK BY MEDIAN PLUGIN/IT
compare generate 21 "" plugin "$plugin generate" ${kubectl:+"kubectl version --client" "$kubectl version --client"}
fill 5
compare_lists "list of 5" 21
compare create 21 "" plugin "$plugin create --ttl 1h" "k3s token" "$k3s token create --ttl 1h" \
  "curl (the CA alone)" "$curl $api/configmaps/kube-root-ca.crt"
# K3s deletes five tokens a second, so few of them are enough to tell.
fill 120
read -ra ids <<< "$("$plugin" list -o jsonpath='{.items[*].id}')"
compare "delete of 60" 1 "" plugin "$plugin delete ${ids[*]:0:60}" "k3s token" "$k3s token delete ${ids[*]:60:60}"

fill 0
compare "create --count 1000" 3 "$plugin delete --all --yes" plugin "$plugin create --ttl 1h --count 1000"
fill 0
compare "delete of 1000" 3 "$plugin create --ttl 1h --count 1000" plugin "$plugin delete --all --yes"

fill 5000
compare_lists "list of 5000" 7
fill 0
