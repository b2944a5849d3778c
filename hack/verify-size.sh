#!/usr/bin/env bash
# Fails if the binary has grown: docs/size.md says what it is made of.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go run ./hack/size
