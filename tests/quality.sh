#!/usr/bin/env bash
# The judge over the prompts of the built-in model, every shape of the menu, through a running server.
#
# Prints a table; writes reel-quality/quality.json and reel-quality/contact-sheet.png. QUALITY_ARGS go to the judge
# (for instance QUALITY_ARGS="--limit 24 --shapes 64x64@17f").
set -euo pipefail
cd "$(dirname "$0")/.."
out=${QUALITY_OUT:-reel-quality}
mkdir -p "$out"
data=$(mktemp -d)
listen=${LISTEN:-127.0.0.1:8010}
target/release/reel bake
target/release/reel serve --listen "$listen" --data-dir "$data" 2>"$out/server.log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$data"' EXIT
# shellcheck disable=SC2086
.venv/bin/python -W ignore -m tiny_shapes.quality --base-url "http://$listen" --videos "$out" ${QUALITY_ARGS:-}
