#!/usr/bin/env bash
# What every commit must pass: the README's test command, which also sets everything up.
set -euo pipefail
cd "$(dirname "$0")/.."
# The test of the dashboard in a browser is skipped where there can be none.
make browser || echo "no browser here: its test will be skipped"
make test
