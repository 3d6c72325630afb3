"""Make a wheel that carries what it needs: python .ci/repair.py WHEEL FOLDER

The platform's usual tool (auditwheel, delocate or delvewheel) copies the OpenMP run-time into the wheel and,
on Linux, finds the oldest systems that the wheel runs on. Then the licence of that run-time goes in beside
ours. The result has the same bytes whenever the same wheel is repaired with the same run-time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import zopfli

LICENSES = Path(__file__).parent / "licenses"
EXPRESSIONS = {
    "libgomp": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libomp": "Apache-2.0 WITH LLVM-exception",
}
TOOLS = {
    "linux": ["-m", "auditwheel", "repair", "--wheel-dir"],
    "darwin": ["-m", "delocate.cmd.delocate_wheel", "-v", "--wheel-dir"],
    "win32": ["-m", "delvewheel", "repair", "--wheel-dir"],
}


def run(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True)


def squeeze(packed: Path, made: Path) -> None:
    """The same archive, compressed by zopfli: 4% smaller than the usual way, and unpacked by anyone."""
    with zipfile.ZipFile(packed) as old, zopfli.ZipFile(made, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, old.read(entry), zipfile.ZIP_DEFLATED)


def repair(wheel: Path, folder: Path) -> Path:
    """Bundle, add licences, pack; returns the new wheel."""
    with tempfile.TemporaryDirectory() as temporary:
        bundled, unpacked = Path(temporary, "bundled"), Path(temporary, "unpacked")
        run(*TOOLS[sys.platform], str(bundled), str(wheel))
        (made,) = bundled.glob("*.whl")
        run("-m", "wheel", "unpack", "--dest", str(unpacked), str(made))
        (tree,) = unpacked.iterdir()
        (info,) = tree.glob("*.dist-info")
        for name, expression in EXPRESSIONS.items():
            # libgomp-1a2b3c.so.1, libomp.dylib, libomp-1a2b3c.dll or, from LLVM's installer, libomp140...
            if not any(path.suffix != ".txt" for path in tree.rglob(f"{name}*")):
                continue
            shutil.copy(LICENSES / f"{name}.txt", info / "licenses")
            metadata = info / "METADATA"
            ours = "License-Expression: BSD-3-Clause"
            text = metadata.read_text(encoding="utf-8")
            if ours not in text:
                raise SystemExit(f"{metadata} has no line {ours!r} to add {expression} to")
            text = text.replace(ours, f"{ours} AND {expression}", 1)
            text = text.replace("License-File:", f"License-File: {name}.txt\nLicense-File:", 1)
            metadata.write_text(text, encoding="utf-8", newline="\n")
        folder.mkdir(parents=True, exist_ok=True)
        packed = Path(temporary, "packed")
        packed.mkdir()
        run("-m", "wheel", "pack", "--dest-dir", str(packed), str(tree))
        squeeze(packed / made.name, folder / made.name)
        return folder / made.name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("SOURCE_DATE_EPOCH", "315619200")  # as in setup.py
    made = repair(options.wheel, options.folder)
    print(f"{made}: {made.stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    main()
