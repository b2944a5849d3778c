#!/usr/bin/env bash
# Fails if docs/commands or docs/output.md are not what hack/update-docs.sh writes, or
# if documents name tests that are not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
hack/update-docs.sh "$pages"
if ! diff -ruN docs/commands "$pages/commands" || ! diff -u docs/output.md "$pages/output.md"; then
  echo "docs/commands or docs/output.md are not up to date: run make update" >&2
  exit 1
fi
for name in $(grep -rohE '`(Test|Fuzz)\w+`|\w+\.txtar`' docs | tr -d '`' | sort -u); do
  if ! grep -rq --include='*_test.go' "^func $name(" pkg test && ! find test -name "$name" | grep -q .; then
    echo "docs name the test $name, which is not there" >&2
    exit 1
  fi
done
