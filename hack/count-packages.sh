#!/usr/bin/env bash
# Shows how a long build gets on: counts the lines of "go build -v" that name a
# package or a download, and passes on the others, such as errors.
#   go build -v ... 2>&1 | hack/count-packages.sh K3s "5 to 15 minutes"
set -euo pipefail
name=$1 usual=$2 packages=0 downloads=0

# On a terminal it is one line that changes.
show() {
  local text="$name: $packages packages built, $downloads modules downloaded, usually $usual"
  if [[ -t 2 ]]; then printf '\r%s' "$text" >&2; else echo "$text" >&2; fi
}
due() { [[ -t 2 ]] || (((packages + downloads) % 200 == 0)); }

show
while IFS= read -r line; do
  case $line in
    "go: downloading "*) ((downloads += 1)) ;;
    *[!a-zA-Z0-9._/~-]*) echo "$line" >&2; continue ;;
    *) ((packages += 1)) ;;
  esac
  if due; then show; fi
done
show
if [[ -t 2 ]]; then echo >&2; fi
