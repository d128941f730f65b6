"""The fuzz targets, by name.

A target is a module in ``targets/``. Its docstring is the promise; ``take(data)`` feeds any
bytes to the parser and raises when the promise is broken; ``SEEDS`` are small inputs that
lead the search, ``TOKENS`` words of the language, ``MAX_BYTES`` (optional) the longest input
worth a try. Inputs that once broke a promise stand in
``regressions/TARGET/``, named after what went wrong; the tests take them each time.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
REGRESSIONS = HERE / "regressions"


def names() -> list[str]:
    """Every target, in the order of the alphabet."""
    return sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> ModuleType:
    """The target's module."""
    return import_module(f"tests.fuzz.targets.{name}")


def regressions(name: str) -> list[Path]:
    """What once broke this target's promise."""
    return sorted((REGRESSIONS / name).glob("*"))
