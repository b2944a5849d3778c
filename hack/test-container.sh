#!/usr/bin/env bash
# Runs the newest K3s of a channel in a container, and lets a second one join it
# with a token of the plugin's: hack/test-container.sh stable|latest|v1.34
# It needs Docker, curl and the built plugin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

channel=${1:?name a K3s channel: stable, latest, or a minor version such as v1.34}
plugin=$PWD/bin/kubectl-k3s_token
[[ -x $plugin ]] || { echo "the plugin is not built: run make build" >&2; exit 1; }

# The channel's address leads to the page of its newest release. An image's tag
# cannot have the plus of the version.
page=$(curl -fsSL -o /dev/null -w '%{url_effective}' "https://update.k3s.io/v1-release/channels/$channel")
version=${page##*/}
version=${version/\%2B/+}
image=rancher/k3s:${version/+/-}
echo "K3s $version"

work=$(mktemp -d)
network=k3stoken-$$
clean() {
  status=$?
  if ((status)); then
    for container in "$network-server" "$network-agent"; do
      echo "the log of $container:" >&2
      docker logs --tail 40 "$container" >&2 || true
    done
  fi
  docker rm --force --volumes "$network-server" "$network-agent" > /dev/null 2>&1 || true
  docker network rm "$network" > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT

# await SECONDS COMMAND...: until the command succeeds.
await() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || { echo "in vain: $*" >&2; return 1; }
    sleep 2
  done
}
kubectl_on_server() { docker exec "$network-server" kubectl "$@"; }
has_ca() { kubectl_on_server get configmap --namespace kube-system kube-root-ca.crt > /dev/null 2>&1; }
has_node() { [[ $(kubectl_on_server get node agent --output name 2> /dev/null) == node/agent ]]; }

docker network create "$network" > /dev/null
docker run --detach --privileged --name "$network-server" --hostname server --network "$network" \
  --publish 127.0.0.1::6443 --tmpfs /run "$image" server --tls-san "$network-server" > /dev/null
await 120 has_ca
docker exec "$network-server" cat /etc/rancher/k3s/k3s.yaml > "$work/kubeconfig"
address=$(docker port "$network-server" 6443/tcp)
sed -i "s|https://127.0.0.1:6443|https://$address|" "$work/kubeconfig"
export KUBECONFIG=$work/kubeconfig

"$plugin" version
umask 077
"$plugin" create --ttl 1h > "$work/token"
"$plugin" verify --server "https://$address" - < "$work/token"
"$plugin" list
docker run --detach --privileged --name "$network-agent" --hostname agent --network "$network" --tmpfs /run \
  --volume "$work/token:/token:ro" "$image" agent --server "https://$network-server:6443" --token-file /token > /dev/null
await 180 has_node
"$plugin" delete - < "$work/token"
left=$("$plugin" list --output name)
[[ -z $left ]] || { echo "left in the cluster: $left" >&2; exit 1; }
echo "A node has joined K3s $version."
