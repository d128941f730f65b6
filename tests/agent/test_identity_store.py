"""The identity in the state directory: steps, power cuts between them, locks, modes."""

import stat

import pytest

from agent.errors import IdentityError, StateError
from agent.identity import IdentityStore
from tests.fakes.power_cut import power_cut

NOW = "2026-11-21T18:30:00Z"


def advance(store, number):
    """Go on from wherever the last power cut left it, to a committed identity."""
    pending = store.pending()
    if pending is None:
        current = store.current()
        if current is not None and current.certificate_id == f"c{number}":
            return current
        pending = store.begin("milepost_by_claim", key_pem=b"key %d" % number)
    if pending.certificate is None:
        pending = store.keep_certificate(
            b"certificate %d" % number, certificate_id=f"c{number}", token="t", received_at=NOW
        )
    if pending.vehicle_id is None:
        store.keep_registration("van-7")
    return store.commit(obtained_at=NOW)


def whole(identity, number):
    return (
        identity.certificate_id == f"c{number}"
        and identity.certificate_file.read_bytes() == b"certificate %d" % number
        and identity.key_file.read_bytes() == b"key %d" % number
        and identity.vehicle_id == "van-7"
    )


@pytest.fixture
def store(tmp_path):
    return IdentityStore(tmp_path)


def test_before_the_first_provisioning_there_is_no_identity(store):
    assert store.current() is None
    assert store.pending() is None
    assert store.others() == []


def test_each_step_can_be_read_back_by_another_process(store, tmp_path):
    again = IdentityStore(tmp_path)
    store.begin("milepost_by_claim", key_pem=b"key 1")
    assert again.pending().key_file.read_bytes() == b"key 1"
    assert again.pending().certificate is None
    store.keep_certificate(b"pem", certificate_id="c1", token="secret", received_at=NOW)
    assert again.pending().certificate.token == "secret"
    assert again.pending().certificate_file.read_bytes() == b"pem"
    store.keep_registration("van-7")
    assert again.pending().vehicle_id == "van-7"
    assert again.current() is None
    store.commit(obtained_at=NOW)
    assert again.pending() is None
    assert again.current().vehicle_id == "van-7"
    assert again.current().key_file.read_bytes() == b"key 1"


def test_a_predecessor_stays_until_it_is_removed(store):
    advance(store, 1)
    second = advance(store, 2)
    assert second.generation == 2
    [first] = store.others()
    assert whole(first, 1)
    store.remove(first.generation)
    assert store.others() == []
    assert whole(store.current(), 2)
    with pytest.raises(ValueError, match="never removed"):
        store.remove(2)


def test_a_certificate_whose_token_expired_gives_way_to_a_new_one(store):
    store.begin("t", key_pem=b"key 1")
    store.keep_certificate(b"old", certificate_id="old", token="t", received_at=NOW)
    store.keep_certificate(b"new", certificate_id="new", token="u", received_at=NOW)
    assert store.pending().certificate.certificate_id == "new"
    assert store.pending().certificate_file.read_bytes() == b"new"
    assert store.pending().key_file.read_bytes() == b"key 1"


def test_what_is_discarded_is_gone_and_the_current_identity_stays(store):
    advance(store, 1)
    store.begin("t", key_pem=b"key 2")
    store.discard_pending()
    store.discard_pending()
    assert store.pending() is None
    assert whole(store.current(), 1)
    assert not list(store.folder.rglob("pending/*"))


def test_nothing_is_committed_that_is_not_registered(store):
    with pytest.raises(IdentityError, match="no provisioning or rotation is under way"):
        store.commit(obtained_at=NOW)
    store.begin("t", key_pem=b"key")
    with pytest.raises(IdentityError, match="not registered"):
        store.commit(obtained_at=NOW)
    assert store.current() is None


def test_no_file_of_it_is_readable_for_others(store, tmp_path):
    with store.locked():
        advance(store, 1)
        store.begin("t", key_pem=b"key 2")
        store.keep_certificate(b"pem", certificate_id="c", token="t", received_at=NOW)
    for path in [store.folder, *store.folder.rglob("*")]:
        if not path.is_symlink():
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_key_in_a_token_has_no_file(store):
    store.begin("t", key_label="vehicle-key-1")
    store.keep_certificate(b"pem", certificate_id="c1", token="t", received_at=NOW)
    store.keep_registration("van-7")
    identity = store.commit(obtained_at=NOW)
    assert identity.key_file is None
    assert identity.key_label == "vehicle-key-1"
    assert not list(store.folder.rglob("key.pem"))


def test_two_processes_never_change_it_at_once(store, tmp_path):
    with (
        store.locked(),
        pytest.raises(StateError, match="another process is provisioning or rotating"),
        IdentityStore(tmp_path).locked(),
    ):
        pass
    with IdentityStore(tmp_path).locked():
        pass


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"vehicle_id": "v"}', b"\xff"])
def test_an_identity_that_is_broken_is_told_and_nothing_is_guessed(store, broken):
    advance(store, 1)
    (store.folder / "current" / "identity.json").write_bytes(broken)
    with pytest.raises(IdentityError, match="is broken"):
        store.current()


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "identity").write_text("a file")
    with pytest.raises(StateError, match="cannot use"):
        IdentityStore(tmp_path).begin("t", key_pem=b"key")


@pytest.mark.parametrize("generations", [0, 1])
def test_a_power_cut_at_any_moment_leaves_a_whole_identity_and_can_be_gone_on_from(
    tmp_path, generations
):
    changes = 0
    while True:
        folder = tmp_path / str(changes)
        store = IdentityStore(folder)
        folder.mkdir()
        if generations:
            advance(store, 1)
        new = generations + 1
        with power_cut(folder, changes) as cut:
            advance(store, new)
        after = IdentityStore(folder)
        now = after.current()
        if now is None:
            assert not generations, f"no identity after {changes} changes"
        else:
            assert whole(now, now.generation), f"a torn identity after {changes} changes"
        assert whole(advance(after, new), new), f"stuck after {changes} changes"
        assert after.pending() is None
        assert [one.generation for one in after.others()] == list(range(1, new))
        if not cut.happened:
            break
        changes += 1
    assert changes > 15, "the cut comes at each of the steps"


def test_a_power_cut_while_a_predecessor_is_removed_leaves_the_current_one(tmp_path):
    changes = 0
    while True:
        folder = tmp_path / str(changes)
        folder.mkdir()
        store = IdentityStore(folder)
        advance(store, 1)
        advance(store, 2)
        with power_cut(folder, changes) as cut:
            store.remove(1)
        after = IdentityStore(folder)
        assert whole(after.current(), 2)
        for other in after.others():
            assert whole(other, 1)
        after.remove(1)
        assert after.others() == []
        if not cut.happened:
            break
        changes += 1
    assert changes > 3
