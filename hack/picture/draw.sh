#!/usr/bin/env bash
# Draws docs/demo.svg anew, from a run on a throw-away K3s server: some ten
# seconds once that is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
make --silent build k3s hack/tools/bin/freeze
text=$(mktemp)
trap 'rm -f "$text"' EXIT
(cd test && go run -tags kustomize_disable_go_plugin_support ./cmd/withk3s ../hack/picture/session.sh) > "$text"
hack/tools/bin/freeze "$text" --language ansi --padding 20 --font.size 14 \
  --font.family 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace' --output docs/demo.svg
