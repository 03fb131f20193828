#!/usr/bin/env bash
# All that is to be known of a GPU in ten minutes, and a training as long as it is told to.
#
#     benchmarks/gpu.sh PICTURES OUT [MINUTES [RECIPE [SETTING...]]]
#
# PICTURES: a folder of pictures, or of shards as `vqcodec data pack` makes them (--shard-size 20MB);
# shards may still be coming: those that are there when the training begins are taken.
# OUT gets checks.json, log.txt, and after a training the codec and the checkpoint in parts of at
# most 15 MB, which `cat last.pt.* > last.pt` puts together again.
#
# Nothing is fetched. Packages that the machine lacks are taken from the folder WHEELS, if it is
# set: `pip download -d WHEELS click constriction pillow pytorch-optimizer rich safetensors pytest`
# fills it. DEVICE=cpu tries the script where there is no GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -ge 2 ] || { sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
pictures=$1 out=$2 minutes=${3:-0} recipe=${4:-photo-3}
shift $(($# < 4 ? $# : 4))
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi

# The training goes first, since it is what a machine that is lent for minutes is for.
if [ "$minutes" != 0 ]; then
    settings=()
    for setting in "$@"; do settings+=(--set "$setting"); done
    [ "$device" = cpu ] || settings+=(--set amp=bf16 --set compile=true)
    # --minutes ends it with a checkpoint, from which the export is made
    "$python" -m vqcodec.cli train "$pictures" --recipe "$recipe" --out "$out/run" \
        --minutes "$minutes" --device "$device" "${settings[@]}" 2>&1 | tee "$out/log.txt"
    "$python" -m vqcodec.cli export "$out/run" --data "$pictures" --out "$out/codec" --force \
        2>&1 | tee -a "$out/log.txt"
    split --bytes 15000000 --numeric-suffixes "$out/run/last.pt" "$out/last.pt."
    rm "$out/run/last.pt"
fi
"$python" benchmarks/gpu.py "$out/checks.json" --device "$device" 2>&1 | tee -a "$out/log.txt"
if "$python" -c 'import pytest' 2>/dev/null; then
    # Without a GPU there is nothing to select, which pytest calls 5.
    "$python" -m pytest -q -m cuda tests/test_golden.py tests/training tests/autoencoders \
        2>&1 | tee -a "$out/log.txt" || [ "$device" = cpu ]
fi
