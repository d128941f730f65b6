"""``python -m tests.fuzz``: search the parsers for inputs that break their promises."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from tests.fuzz.campaign import search
from tests.fuzz.catalogue import load, names

EXAMPLES = """examples:
  python -m tests.fuzz                                every target for two minutes
  python -m tests.fuzz --seconds 20 batch iotsql      two of them, shortly
  python -m tests.fuzz --list                         what each target promises
  python -m tests.fuzz --input FILE batch             one input again, with its traceback

exit code: 0 nothing found, 1 a promise was broken, 2 wrong usage
"""


def arguments() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Search the parsers for inputs that break their promises, with atheris.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: every target")
    parser.add_argument("--seconds", type=int, default=120, help="for each target (default 120)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="search the same way each time (0: another way each time)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".make/fuzz"), help="corpora, logs and findings"
    )
    parser.add_argument("--input", type=Path, help="take this one input, without atheris")
    parser.add_argument("--list", action="store_true", help="list the targets and end")
    words = parser.parse_args()
    unknown = sorted(set(words.targets) - set(names()))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are: {', '.join(names())}")
    if words.input and len(words.targets) != 1:
        parser.error("--input needs exactly one TARGET")
    if words.seconds < 1:
        parser.error(f"--seconds {words.seconds}: at least 1")
    return words


def main() -> int:
    """The exit code."""
    words = arguments()
    if words.list:
        for name in names():
            print(f"{name:12} {(load(name).__doc__ or '').splitlines()[0]}")
        return 0
    if words.input:
        load(words.targets[0]).take(words.input.read_bytes())
        print(f"{words.targets[0]} took {words.input} as it should")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install atheris; it has no wheel for every"
              " Python and machine)", file=sys.stderr)  # fmt: skip
        return 1 if os.environ.get("MILEPOST_REQUIRE_ALL") == "1" else 0
    broken = 0
    for name in words.targets or names():
        print(f"{name:12} for {words.seconds} s ...", end="", flush=True)
        outcome = search(name, words.seconds, words.folder.resolve(), words.seed)
        rate = outcome.inputs / outcome.seconds
        told = f"{outcome.inputs} inputs, {rate:.0f}/s, coverage {outcome.coverage}"
        print(f"\r{name:12} {told:45} {'BROKEN' if outcome.failure else 'held'}")
        if outcome.failure:
            broken += 1
            print(outcome.failure, file=sys.stderr)
            for path in outcome.findings:
                print(f"again: python -m tests.fuzz --input {path} {name}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
