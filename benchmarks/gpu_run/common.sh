# For the scripts beside this one: where results go, which Python, how long each step may take, and DRY.
#
# OUT is what comes back: the tool brings at most 8 files, so it gets one archive and the few files that are read first. Everything
# is written to WORK, which `pack` puts into that archive after each step.
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
export OUT=${OUT:-runs/gpu} P=${PYTHON:-python3} DRY=${DRY:-}
export WORK=${WORK:-${TMPDIR:-/tmp}/npunet-gpu-$(id -u)} CUPY_CACHE_DIR=${CUPY_CACHE_DIR:-${TMPDIR:-/tmp}/npunet-cupy-$(id -u)}
mkdir -p "$OUT" "$WORK"
for place in "$NPUNET_DATA" shared/data ../shared/data .gpu/data; do
    [ -d "$place/isbi2012" ] && export NPUNET_DATA=$place && break
done
limit_of() { case $1 in 0-machine) echo 42 ;; 1-right) echo 135 ;; 2-bars) echo 185 ;; 3-layers) echo 90 ;; 4-training) echo 110 ;; esac; }
# First what Python answers with where it stands (Ctrl-C), eight seconds later the end, which a kernel that hangs cannot refuse.
limited() { timeout -s INT -k 8 "$@"; }
benchmark() { limited "$1" "$P" -m benchmarks.gpu --seconds $(($1 - 10)) ${DRY:+--dry} "${@:2}"; }
tests() {                                                       # -v: the name of a test that hangs stands last; its stack after 50 s
    limited "$1" "$P" -m pytest -v --tb=short -m gpu -p no:benchmark -p no:cacheprovider -W default -o faulthandler_timeout=50 \
        ${DRY:+-q --collect-only} "${@:2}"
}
pack() {
    tar -czf "$OUT/all.tgz.new" -C "$WORK" --exclude='*.ncu-rep' . && mv "$OUT/all.tgz.new" "$OUT/all.tgz"
    cp "$WORK"/[0-9].log "$OUT"/
}
