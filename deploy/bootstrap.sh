#!/bin/sh
# Make a Prefect server ready for Heirloom: pool, automations, deployments. Again after each upgrade; it changes what changed.
set -eu
cd "$(dirname "$0")/.."
python -m prefect work-pool create heirloom --type "${HEIRLOOM_POOL:-process}" --overwrite
python -m deploy.automations
python -m prefect --no-prompt deploy --all
