#!/usr/bin/env bash
# What every commit must pass. Sets everything up; the test in a browser is skipped without one.
set -euo pipefail
cd "$(dirname "$0")/.."
make browser || echo "no browser: its test is skipped"
make test
