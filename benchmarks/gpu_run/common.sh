# For the scripts beside this one: where results go, which Python, how long each step may take, and DRY.
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
export OUT=${OUT:-runs/gpu} P=${PYTHON:-python3} DRY=${DRY:-}
mkdir -p "$OUT"
for place in "$NPUNET_DATA" shared/data ../shared/data .gpu/data; do
    [ -d "$place/isbi2012" ] && export NPUNET_DATA=$place && break
done
limit_of() { case $1 in 1-right) echo 145 ;; 2-bars) echo 195 ;; 3-layers) echo 100 ;; 4-training) echo 125 ;; esac; }
benchmark() { timeout "$1" "$P" -m benchmarks.gpu --seconds $(($1 - 8)) ${DRY:+--dry} "${@:2}"; }
tests() { timeout "$1" "$P" -m pytest -q -m gpu -p no:benchmark -p no:cacheprovider -W default ${DRY:+--collect-only} "${@:2}"; }
