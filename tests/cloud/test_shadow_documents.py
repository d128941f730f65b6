"""The shadow document against AWS's documented rules, and against a plain model of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import ShadowError
from cloud.shadow import Shadow, deleted, delta, existing, parse_request, parse_update, updated
from cloud.shadow.answers import (
    delta_document,
    documents_document,
    error_document,
    get_document,
    update_document,
)

THEN, NOW = 1_700_000_000, 1_700_000_060


def update(shadow, *, now_s=NOW, **request):
    return updated(shadow, parse_update(json.dumps(request).encode()), now_s)


def shadow_of(desired=None, reported=None):
    state = {"desired": desired, "reported": reported}
    return update(None, state=state, now_s=THEN)


# what is there, what is asked for, what is there then
UPDATES = [
    ({}, {"a": 1}, {"a": 1}),
    ({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}),
    ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
    ({"a": 1}, {"b": None}, {"a": 1}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3, "y": 2}}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}, {"a": {"y": 2}}),
    ({"a": {"x": 1}}, {"a": {"x": None}}, {}),
    ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
    ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
    ({"a": {"x": 1}, "b": 2}, {"a": None}, {"b": 2}),
    ({"a": 1}, None, {}),
]


@pytest.mark.parametrize(("before", "patch", "after"), UPDATES)
def test_an_update_changes_what_it_names_and_null_removes(before, patch, after):
    shadow = update(shadow_of(desired=before), state={"desired": patch})
    assert shadow.state.get("desired", {}) == after
    assert shadow.version == 2


# desired, reported, delta
DELTAS = [
    ({"a": 1}, {}, {"a": 1}),
    ({"a": 1}, {"a": 1}, {}),
    ({"a": 1}, {"a": 1.0}, {}),
    ({"a": 1}, {"a": True}, {"a": 1}),
    ({"a": 1}, {"a": "1"}, {"a": 1}),
    ({}, {"a": 1}, {}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3}}, {"a": {"y": 2}}),
    ({"a": {"x": 1}}, {"a": 5}, {"a": {"x": 1}}),
    ({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 2]}),
    ({"a": [True]}, {"a": [1]}, {"a": [True]}),
    ({"a": [{"x": 1}]}, {"a": [{"x": 1}]}, {}),
]


@pytest.mark.parametrize(("desired", "reported", "difference"), DELTAS)
def test_the_delta_is_what_is_desired_and_not_reported(desired, reported, difference):
    state, metadata = delta(shadow_of(desired, reported))
    assert state == difference
    assert metadata.keys() == difference.keys()


REFUSED = [
    (b"", 400, "Invalid JSON"),
    (b"{", 400, "Invalid JSON"),
    (b"[]", 400, "Invalid JSON"),
    (b'{"state": {"desired": {"a": NaN}}}', 400, "Invalid JSON"),
    (b'{"state": {"desired": {"a": "\xff"}}}', 415, "UTF-8"),
    (b"{}", 400, "Missing required node: state"),
    (b'{"state": 1}', 400, "State node must be an object"),
    (b'{"state": {"desired": 1}}', 400, "Desired node must be an object"),
    (b'{"state": {"reported": []}}', 400, "Reported node must be an object"),
    (b'{"state": {"delta": {}}}', 400, "State contains an invalid node: 'delta'"),
    (b'{"state": {}, "version": "1"}', 400, "Invalid version"),
    (b'{"state": {}, "version": true}', 400, "Invalid version"),
    (b'{"state": {}, "version": -1}', 400, "Invalid version"),
    (b'{"state": {}, "clientToken": 7}', 400, "Invalid clientToken"),
    (b'{"state": {}, "clientToken": "%s"}' % (b"t" * 65), 400, "Invalid clientToken"),
    (
        b'{"state": {"desired": {"a":{"b":{"c":{"d":{"e":{"f":{"g":1}}}}}}}}}',
        400,
        "too many levels",
    ),
    (b'{"state": {"desired": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_002, 400, "too many levels"),
    (b'{"state": {"desired": {"a": "%s"}}}' % (b"x" * 8192), 413, "maximum size"),
]


@pytest.mark.parametrize(("payload", "code", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_a_bad_update_is_refused_with_the_documented_code(payload, code, reason):
    with pytest.raises(ShadowError) as refused:
        parse_update(payload)
    assert refused.value.code == code
    assert reason in refused.value.reason


def test_six_levels_and_a_token_of_64_bytes_are_allowed():
    deep = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
    request = {"state": {"desired": deep}, "clientToken": "t" * 64}
    assert parse_update(json.dumps(request).encode()).client_token == "t" * 64


def test_a_state_may_grow_to_8_kb_and_no_further():
    shadow = shadow_of(desired={"a": "x" * 5000})
    with pytest.raises(ShadowError) as refused:
        update(shadow, state={"reported": {"b": "x" * 5000}})
    assert refused.value.code == 413
    assert (
        update(shadow, state={"desired": {"a": None}, "reported": {"b": "x" * 5000}}).version == 2
    )


def test_an_update_of_another_version_is_a_conflict():
    shadow = shadow_of(desired={"a": 1})
    assert update(shadow, state={"desired": {"a": 2}}, version=1).version == 2
    with pytest.raises(ShadowError) as refused:
        update(shadow, state={"desired": {"a": 2}}, version=7, clientToken="mine")
    assert error_document(refused.value, NOW) == {
        "code": 409,
        "message": "Version conflict",
        "timestamp": NOW,
        "clientToken": "mine",
    }


def test_nothing_can_be_got_where_there_is_no_shadow():
    for missing in (None, deleted(shadow_of(desired={"a": 1}), NOW)):
        with pytest.raises(ShadowError) as refused:
            existing(missing, parse_request(b""))
        assert (refused.value.code, refused.value.reason) == (
            404,
            "No shadow exists with name: 'milepost'",
        )


@pytest.mark.parametrize(("hours", "version"), [(47, 3), (49, 1)])
def test_a_shadow_made_again_goes_on_counting_for_48_hours(hours, version):
    gone = deleted(Shadow(2, THEN, {"desired": {"a": 1}}, {}), NOW)
    again = update(gone, state={"desired": {"b": 1}}, now_s=NOW + hours * 3600)
    assert (again.version, again.state) == (version, {"desired": {"b": 1}})


def test_the_documents_have_the_form_that_aws_gives_them():
    before = shadow_of(desired={"a": 1, "b": [1, {"c": 2}]}, reported={"a": 1})
    request = parse_update(b'{"state": {"desired": {"a": 2}}, "clientToken": "t"}')
    after = updated(before, request, NOW)
    old, new = {"timestamp": THEN}, {"timestamp": NOW}
    list_times = [old, {"c": old}]
    about = {"version": 2, "timestamp": NOW, "clientToken": "t"}
    assert update_document(after, request, NOW) == {
        "state": {"desired": {"a": 2}},
        "metadata": {"desired": {"a": new}},
        **about,
    }
    assert delta_document(after, request, NOW) == {
        "state": {"a": 2, "b": [1, {"c": 2}]},
        "metadata": {"a": new, "b": list_times},
        **about,
    }
    assert documents_document(before, after, request, NOW) == {
        "previous": {"state": before.state, "metadata": before.metadata, "version": 1},
        "current": {"state": after.state, "metadata": after.metadata, "version": 2},
        "timestamp": NOW,
        "clientToken": "t",
    }
    assert get_document(after, parse_request(b""), NOW) == {
        "state": {
            "desired": {"a": 2, "b": [1, {"c": 2}]},
            "reported": {"a": 1},
            "delta": {"a": 2, "b": [1, {"c": 2}]},
        },
        "metadata": {"desired": {"a": new, "b": list_times}, "reported": {"a": old}},
        "version": 2,
        "timestamp": NOW,
    }


# --- a model: a state is the set of its leaves, by path --------------------------------

keys = st.sampled_from("abc")
leaves = st.one_of(st.integers(-3, 3), st.booleans(), st.text(max_size=2), st.lists(st.integers()))
trees = st.recursive(
    st.dictionaries(keys, leaves, max_size=3),
    lambda inner: st.dictionaries(keys, st.one_of(leaves, inner), max_size=3),
    max_leaves=6,
)
patches = st.recursive(
    st.dictionaries(keys, st.one_of(st.none(), leaves), max_size=3),
    lambda inner: st.dictionaries(keys, st.one_of(st.none(), leaves, inner), max_size=3),
    max_leaves=6,
)


def paths(tree, at=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from paths(value, (*at, key))
        else:
            yield (*at, key), value


def model_update(state, patch, at=()):
    """The same by paths: what lies at or below a given path goes, then values are set."""
    for key, value in patch.items():
        path = (*at, key)
        if isinstance(value, dict):
            # an object takes the place of a plain value, even one without keys
            state = {known: kept for known, kept in state.items() if known != path}
            state = model_update(state, value, path)
            continue
        state = {k: kept for k, kept in state.items() if k[: len(path)] != path}
        if value is not None:
            state[path] = value
    return state


@given(st.lists(patches, max_size=6))
def test_any_updates_leave_what_the_model_leaves(requests):
    shadow, model = None, {}
    for number, patch in enumerate(requests, start=1):
        shadow = update(shadow, state={"desired": patch})
        model = model_update(model, patch)
        assert dict(paths(shadow.state.get("desired", {}))) == model
        assert shadow.version == number
        times = shadow.metadata.get("desired", {})
        for path in model:
            branch = times
            for key in path:
                branch = branch[key]
            assert branch == [{"timestamp": NOW}] * len(branch) or branch == {"timestamp": NOW}


@given(trees, trees)
def test_reporting_the_delta_leaves_none(desired, reported):
    shadow = shadow_of(desired, reported)
    difference, _ = delta(shadow)
    wanted = dict(paths(desired))
    assert {path: wanted[path] for path, _ in paths(difference)} == dict(paths(difference))
    after = update(shadow, state={"reported": difference})
    assert delta(after) == ({}, {})
