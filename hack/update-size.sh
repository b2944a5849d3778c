#!/usr/bin/env bash
# Writes the size of the binary and what it is made of into docs/size.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go run ./hack/size -update
