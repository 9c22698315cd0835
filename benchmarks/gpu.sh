#!/usr/bin/env bash
# Everything that docs/PERFORMANCE.md says of graphics cards, on the card that is here: bash benchmarks/gpu.sh
# Without a card, the dry run: bash benchmarks/gpu.sh --device cpu --small
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-python}" -m benchmarks.gpu --out "${OUT:-.}/gpu.json" "$@"
