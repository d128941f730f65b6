"""Each target for so long under atheris, in a process of its own; what it found is kept.

The corpus of a target grows from run to run in ``FOLDER/corpus/TARGET``. An input that broke
a promise is written to ``FOLDER/findings/TARGET``: mend the parser, then move it to
``tests/fuzz/regressions/TARGET`` under a name that says what went wrong.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.catalogue import load, regressions

ROOT = Path(__file__).resolve().parents[2]
SLOWEST_INPUT_S = 10
MEMORY_MB = 1_024
"""Of the whole process: Python, the parser, the corpus and libFuzzer's own tables."""

_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"\bcov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What the search of one target came to."""

    target: str
    seconds: float
    inputs: int
    coverage: int
    """Edges of the code reached, as libFuzzer counts them."""
    findings: tuple[Path, ...]
    failure: str
    """The end of what the process said, when it did not end as it should."""


def search(name: str, seconds: int, folder: Path, seed: int = 0) -> Outcome:
    """Fuzz one target for ``seconds``; a ``seed`` other than 0 takes the same way each time."""
    corpus, found = folder / "corpus" / name, folder / "findings" / name
    for each in (corpus, found):
        each.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    began = time.monotonic()
    log = folder / f"{name}.log"
    # libFuzzer's end leaves the child no time to remove what it wrote
    with tempfile.TemporaryDirectory(prefix="milepost-fuzz-") as scratch, log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.fuzz.child", name),
                *map(str, (corpus, _seeds(name, folder))),
                f"-seed={seed}",
                f"-max_total_time={seconds}",
                f"-timeout={SLOWEST_INPUT_S}",
                f"-rss_limit_mb={MEMORY_MB}",
                f"-artifact_prefix={found}/",
                f"-dict={_dictionary(name, folder)}",
                "-print_final_stats=1",
                f"-max_len={getattr(load(name), 'MAX_BYTES', 4_096)}",
            ],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": scratch, "PYTHONHASHSEED": str(seed) if seed else "random"},
            stdout=output,
            stderr=output,
        )  # fmt: skip
        try:
            code = process.wait(seconds + 120)
        except BaseException:
            process.kill()
            process.wait()
            raise
    said = log.read_text(encoding="utf-8", errors="replace")
    return Outcome(
        target=name,
        seconds=time.monotonic() - began,
        inputs=int((_EXECUTIONS.findall(said) or ["0"])[-1]),
        coverage=int((_COVERAGE.findall(said) or ["0"])[-1]),
        findings=tuple(sorted(set(found.iterdir()) - before)),
        failure="" if code == 0 else _end_of(said),
    )


def _end_of(said: str) -> str:
    lines = said.splitlines()
    start = next((at for at, line in enumerate(lines) if "Uncaught Python exception" in line), None)
    return "\n".join(lines[-25:] if start is None else lines[start : start + 25])


def _seeds(name: str, folder: Path) -> Path:
    seeds = folder / "seeds" / name
    shutil.rmtree(seeds, ignore_errors=True)
    seeds.mkdir(parents=True)
    for number, data in enumerate(_inputs(name)):
        (seeds / f"{number:03d}").write_bytes(data)
    return seeds


def _inputs(name: str) -> Iterator[bytes]:
    yield from load(name).SEEDS
    for path in regressions(name):
        yield path.read_bytes()


def _dictionary(name: str, folder: Path) -> Path:
    path = folder / "seeds" / f"{name}.dict"
    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in load(name).TOKENS]
    path.write_text("".join(f'"{word}"\n' for word in words), encoding="ascii")
    return path
