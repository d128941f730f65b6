"""One target under atheris: ``python -m tests.fuzz.child TARGET [libFuzzer's options]``.

The code under test is instrumented while it is imported, so nothing of it may be imported
before. libFuzzer ends the process: 0 after its time, another code with a finding.
"""

import logging
import sys

import atheris

INSTRUMENTED = ["agent", "cloud", "contract", "cantools", "textparser", "pynmea2", "can", "isotp"]


def main() -> None:
    """Search until libFuzzer ends it."""
    name = sys.argv.pop(1)
    from tests.fuzz.catalogue import load  # noqa: PLC0415  it imports the target's module

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(name)
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, target.take)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
