"""What fastnn runs on: instruction set, threads, forks, and Ctrl-C while it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from processes import inherited, printed, python

import fastnn
from fastnn._kernels import cpus, machine

needs_openmp = pytest.mark.skipif(not machine.openmp(), reason="this build has no OpenMP")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# The instruction set ------------------------------------------------------------------------------


def test_best_instruction_set_is_taken():
    available = fastnn.available_isas()
    assert available[-1] in ("baseline", "neon")
    assert set(available) <= {"avx512", "avx2", "baseline", "neon"}
    assert printed("import fastnn; print(fastnn.isa())") == available[0]


@pytest.mark.parametrize("name", fastnn.available_isas())
def test_instruction_set_is_forced(name):
    assert printed("import fastnn; print(fastnn.isa())", FASTNN_ISA=name) == name
    done = python("-m", "fastnn", "info", FASTNN_ISA=name)
    assert done.returncode == 0
    assert re.search(rf"^instruction set +{name}$", done.stdout, re.MULTILINE)


def test_unknown_instruction_set_is_an_import_error_with_the_valid_names():
    code = """
        import fastnn
        try:
            fastnn.isa()
        except ImportError as error:
            print(error)
    """
    message = printed(code, FASTNN_ISA="sse9")
    assert "FASTNN_ISA" in message and "'sse9'" in message
    assert message.endswith(", ".join(fastnn.available_isas()))


@pytest.mark.parametrize("arguments", [("info",), ("train", "digits")])
def test_unknown_instruction_set_is_one_line_on_the_command_line(arguments):
    done = python("-m", "fastnn", *arguments, FASTNN_ISA="sse9")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"fastnn [a-z]+: error: [^\n]*FASTNN_ISA[^\n]*'sse9'[^\n]*\n", done.stderr)
    assert all(name in done.stderr for name in fastnn.available_isas())


# The number of threads ----------------------------------------------------------------------------

THREADS = "import fastnn; print(fastnn.get_num_threads())"


@needs_openmp
@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"FASTNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"FASTNN_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"FASTNN_NUM_THREADS": "many", "OMP_NUM_THREADS": "4"}, 4),
        ({"FASTNN_NUM_THREADS": "0", "OMP_NUM_THREADS": "4"}, 4),
    ],
)
def test_our_variable_wins_over_that_of_openmp(environment, threads):
    assert printed(THREADS, **environment) == str(threads)


@needs_openmp
def test_a_call_wins_over_the_environment():
    code = """
        import fastnn
        fastnn.set_num_threads(4)
        print(fastnn.get_num_threads())
        with fastnn.threads(2):
            print(fastnn.get_num_threads())
        print(fastnn.get_num_threads())
        fastnn.set_num_threads(None)
        print(fastnn.get_num_threads())
    """
    environment = {"FASTNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}
    assert printed(code, **environment).split() == ["4", "2", "4", "3"]


@needs_affinity
def test_affinity_is_respected():
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); {THREADS}"
    assert printed(code) == "1"


@needs_affinity
@needs_openmp
def test_a_variable_wins_over_affinity():
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); {THREADS}"
    assert printed(code, FASTNN_NUM_THREADS="2") == "2"


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (10**6, ValueError), (2.0, TypeError), ("2", TypeError),
     (True, TypeError)],
)  # fmt: skip
def test_impossible_numbers_of_threads_are_refused(n, error, thread_count):
    before = fastnn.get_num_threads()
    with pytest.raises(error, match=re.escape(repr(n))):
        fastnn.set_num_threads(n)
    assert fastnn.get_num_threads() == before


# The quota of a container -------------------------------------------------------------------------


@pytest.fixture
def quota(tmp_path, monkeypatch):
    """`cpus._quota` on control groups made of files, on a machine of eight cores."""
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: 8)

    def measure(membership: str | None, files: dict[str, str]) -> int:
        root, own = tmp_path / "cgroup", tmp_path / "self"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        if membership is not None:
            own.write_text(membership)
        return cpus._quota(root, own)

    return measure


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 1),  # whole cores: half a one more would only be waited for
        ("50000 100000", 1),
        ("max 100000", 8),
        ("1600000 100000", 8),
        ("nonsense", 8),
        ("100000 0", 8),
        ("", 8),
    ],
)
def test_quota_of_version_2(quota, limit, cores):
    assert quota("0::/box\n", {"box/cpu.max": f"{limit}\n"}) == cores


def test_quota_binds_the_groups_below(quota):
    files = {"pod/cpu.max": "300000 100000\n", "pod/box/cpu.max": "max 100000\n"}
    assert quota("0::/pod/box\n", files) == 3


def test_quota_of_a_container_that_sees_itself_as_the_root(quota):
    assert quota("0::/\n", {"cpu.max": "400000 100000\n"}) == 4


@pytest.mark.parametrize(("us", "cores"), [("250000", 2), ("-1", 8)])
def test_quota_of_version_1(quota, us, cores):
    files = {"cpu/box/cpu.cfs_quota_us": us, "cpu/box/cpu.cfs_period_us": "100000"}
    assert quota("5:memory:/other\n3:cpu,cpuacct:/box\n", files) == cores


def test_no_quota_where_nothing_can_be_read(quota):
    assert quota(None, {}) == 8
    assert quota("0::/nowhere\n", {}) == 8


@pytest.mark.parametrize("content", ["", "nonsense\n", "0:/box\n"])
def test_no_quota_where_the_groups_are_not_as_linux_writes_them(quota, content):
    assert quota(content, {"box/cpu.max": "100000 100000\n"}) == 8


def test_an_affinity_that_cannot_be_read_leaves_the_cores_of_the_machine(monkeypatch):
    def denied(pid):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(cpus.os, "sched_getaffinity", denied, raising=False)
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: 6)
    assert cpus._affinity() == 6
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: None)
    assert cpus.default_threads() >= 1


def test_quota_limits_the_default(monkeypatch):
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpus, "_affinity", lambda: 6)
    monkeypatch.setattr(cpus, "_quota", lambda *files: 3)
    assert cpus.default_threads() == 3
    monkeypatch.setattr(cpus, "_affinity", lambda: 2)
    assert cpus.default_threads() == 2


# Forks --------------------------------------------------------------------------------------------


@needs_fork
@needs_openmp
def test_forked_child_runs_on_one_thread_and_does_not_hang():
    code = """
        import os, sys, warnings
        import numpy as np
        import fastnn

        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        fastnn.set_num_threads(2)
        rng = np.random.default_rng(0)
        x, w = rng.normal(size=(512, 512)), rng.normal(size=(512, 512))
        model = fastnn.Sequential([fastnn.Dense(256), fastnn.ReLU(), fastnn.Dense(512)], input_dim=512)

        def work():
            y = fastnn.functional.dense_forward(x, w)
            model.fit(x, y, loss="mean_squared_error", optimizer=fastnn.SGD(1e-4), epochs=2)
            return y

        before = work()  # the team's threads exist from here on
        child = os.fork()
        if child == 0:
            fastnn.set_num_threads(2)
            same = np.array_equal(work(), before)
            os._exit(0 if same and fastnn.get_num_threads() == 1 else 7)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        work()
        print(status, fastnn.get_num_threads())
    """
    assert printed(code) == "0 2"


# Ctrl-C -------------------------------------------------------------------------------------------

# One step of this is some 340 Gflop: more than a second on one core, however fast.
LONG_STEP = """
    import sys, time
    import numpy as np
    import fastnn

    rng = np.random.default_rng(0)
    X = rng.standard_normal((8192, 2048), dtype=np.float32)
    y = rng.integers(0, 10, len(X))
    model = fastnn.Sequential(
        [fastnn.Dense(2048), fastnn.BatchNorm(), fastnn.ReLU(), fastnn.Dense(2048), fastnn.ReLU(),
         fastnn.Dense(10)], input_dim=2048, dtype="float32", seed=0,
    )
    model.compile("softmax_cross_entropy", fastnn.SGD(lr=0.01, momentum=0.9))
    small = X[:64], y[:64]
    # The first epoch also compiles the step; the others are nothing but the step.
    first = model.fit(X, y, batch_size=None, epochs=1, verbose=False)

    class Announce:
        def on_epoch_begin(self, training):
            print("step", flush=True)

    for _ in range(int(sys.argv[1])):
        try:
            model.fit(X, y, batch_size=None, epochs=1, callbacks=[Announce()], verbose=False)
        except KeyboardInterrupt:
            print(time.monotonic(), flush=True)
        assert len(model.history["loss"]) == 0, f"not interrupted: {first.last}"
        assert all(np.isfinite(array).all() for array in model.state().values())
        history = model.fit(*small, batch_size=32, epochs=2, verbose=False)
        assert len(history["loss"]) == 2 and np.isfinite(history["loss"]).all()
    print("usable", model.predict(X[:8]).shape)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_openmp)])
def test_interrupt_is_answered_within_a_fifth_of_a_second(threads):
    rounds = 5
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(LONG_STEP), str(rounds)],
        env={**inherited(), "FASTNN_NUM_THREADS": str(threads)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    delays = []
    try:
        for _ in range(rounds):
            assert process.stdout.readline() == "step\n", process.communicate()[1]
            time.sleep(0.15)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            answer = process.stdout.readline()
            assert answer, process.communicate()[1]
            delays.append(float(answer) - sent)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert out == "usable (8,)\n"
    # another process on the core may delay one answer or another, but not most of them
    assert sorted(delays)[rounds // 2] <= 0.2, delays


def test_files_of_control_groups_are_where_linux_has_them():
    if not Path("/proc/self/cgroup").is_file():
        pytest.skip("no control groups here")
    assert 1 <= cpus._quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")) <= os.cpu_count()
