#!/usr/bin/env bash
# The kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set of this
# machine: tests/sanitize.sh [PYTHON] [arguments of pytest]. PYTHON has NumPy, Cython, setuptools and pytest.
# Works on a copy of the checkout in a temporary folder. Any finding ends the process, and so the run.
set -euo pipefail
python=$(command -v "${1:-python3}")
shift || true
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$file" ]; then cp --parents "$file" "$work"; fi
done
cd "$work"

# -O1: the vector code at -O3 with checks takes the compiler many minutes. One thread: the sanitizers of
# gcc do not know libgomp, and a block touches the same memory whoever runs it.
export FASTNN_NO_OPENMP=1
export FASTNN_CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
"$python" setup.py build_ext --inplace >build.log 2>&1 || { tail -n 30 build.log; exit 1; }

export LD_PRELOAD="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
# Python itself leaks what it keeps to its end; its small blocks are to come from malloc, which is watched.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc PYTHONPATH=$work PYTHONDONTWRITEBYTECODE=1
if [ $# -eq 0 ]; then
    # what compares values, bits and outputs, of every case; not what needs threads or child processes
    set -- tests/test_kernels.py tests/test_arguments.py tests/test_gemm.py tests/test_step.py \
        tests/test_functional.py -k "not threads and not fork"
fi
"$python" -m pytest -q -p no:cacheprovider -p no:faulthandler "$@"
