#!/usr/bin/env bash
# The kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set of this
# machine: tests/sanitize.sh [PYTHON] [arguments of pytest]. PYTHON has NumPy, Cython, setuptools, pytest and
# hypothesis; with pytest-xdist as many tests run at once as there are cores.
#
# Works on a copy of the checkout. FASTNN_SANITIZE names a folder that keeps it with what was compiled (else a
# temporary one): a second run compiles what has changed, and `-k` or a file as argument tries a finding again.
# Any finding ends the process, and so the run. Ten to twenty minutes on two cores of their own, half of them
# for the compiler.
set -euo pipefail
python=$(command -v "${1:-python3}")
shift || true
root=$(cd "$(dirname "$0")/.." && pwd)
work=${FASTNN_SANITIZE:-$(mktemp -d)}
if [ -z "${FASTNN_SANITIZE:-}" ]; then trap 'rm -rf "$work"' EXIT; fi
mkdir -p "$work"
work=$(cd "$work" && pwd)
stage() { printf '\n=== %s (after %d s)\n' "$*" "$SECONDS"; }

stage "a copy of the checkout in $work"
cd "$root"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    # what has not changed keeps its time, and is not compiled again
    if [ -e "$file" ]; then cp --parents --preserve=timestamps --update "$file" "$work"; fi
done
cd "$work"

# -O1: the vector code at -O3 with checks takes the compiler many minutes. -g1: lines, which is all that a report
# shows; with more it takes half as long again. Checks as calls: in place they make the code five times as large.
# One thread: the sanitizers of gcc do not know libgomp, and a block touches the same memory whoever runs it.
checks="-fsanitize=address,undefined -fno-sanitize-recover=all --param=asan-instrumentation-with-call-threshold=0"
export FASTNN_NO_OPENMP=1 FASTNN_OBJECTS=$work/objects
export FASTNN_CFLAGS="-O1 -g1 -fno-omit-frame-pointer $checks"
stage "build (log: $work/build.log)"
"$python" setup.py build_ext --inplace >build.log 2>&1 || { tail -n 30 build.log; exit 1; }

export LD_PRELOAD="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
# Python itself leaks what it keeps to its end; its small blocks are to come from malloc, which is watched.
# Reports go into files: pytest holds back what is printed, and ends with the process.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0:log_path=$work/report
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$work/report
rm -f "$work"/report.*
export PYTHONMALLOC=malloc PYTHONPATH=$work PYTHONDONTWRITEBYTECODE=1
sets=$("$python" -c 'import fastnn; print(*fastnn.available_isas())')
stage "tests: $sets"
if [ $# -eq 0 ]; then
    # what compares values, bits and outputs, of every case; not what needs threads or child processes
    set -- tests/test_{kernels,arguments,gemm,step,functional,batchnorm,losses,updates,past_caches,optimizers,norms,properties,folding}.py \
        -k "not threads and not fork and not beyond_the_caches"
    if "$python" -c 'import xdist' 2>/dev/null; then set -- "$@" -n "$(nproc)"; fi
fi
"$python" -m pytest -v -p no:cacheprovider -p no:faulthandler "$@" >"$work/tests.log" 2>&1 || {
    tail -n 20 "$work/tests.log" # the last line names the test
    cat "$work"/report.* 2>/dev/null || true
    exit 1
}
stage "no finding; $(tail -n 1 "$work/tests.log")"
