#!/usr/bin/env bash
# Fails if a workflow is malformed, or uses an action by a name that can come to
# mean something else: only a commit stays what it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make --silent hack/tools/bin/actionlint
# Without shellcheck, which not every machine has: the result would depend on it.
hack/tools/bin/actionlint -shellcheck= -pyflakes=
if grep -HnE '^ *(- )?uses: +[^. ]' .github/workflows/*.yml | grep -vE 'uses: [^@ ]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$'; then
  echo "name these actions by commit, with the version behind it: uses: OWNER/NAME@<40 hex digits> # v1.2.3" >&2
  exit 1
fi
