"""The short form of the search: seeds, what was found before, and what hypothesis makes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.catalogue import REGRESSIONS, load, names, regressions


@st.composite
def mutated(draw, seeds, tokens):
    """A seed with pieces cut out, put in, doubled and overwritten; or any bytes at all."""
    data = bytearray(draw(st.sampled_from(seeds)))
    piece = st.sampled_from(tokens) | st.binary(min_size=1, max_size=8)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 16)))
        match draw(st.sampled_from(["cut", "put", "double", "end"])):
            case "cut":
                del data[at:end]
            case "put":
                data[at:end] = draw(piece)
            case "double":
                data[at:at] = data[at:end] * draw(st.integers(1, 4))
            case "end":
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", names())
def test_a_target_keeps_its_promise_for_mutations_of_its_seeds(name):
    target = load(name)

    @settings(max_examples=getattr(target, "EXAMPLES", 100), database=None)
    @given(mutated(target.SEEDS, target.TOKENS) | st.binary(max_size=64))
    def holds(data):
        target.take(data)

    for seed in target.SEEDS:
        target.take(seed)
    holds()


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name in names() for path in regressions(name)],
    ids=lambda value: value if isinstance(value, str) else value.stem,
)
def test_what_once_broke_a_promise_does_not_again(name, path):
    load(name).take(path.read_bytes())


def test_every_regression_belongs_to_a_target():
    assert {folder.name for folder in REGRESSIONS.iterdir()} <= set(names())
