import base64
import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent import update_cli
from agent.updater import __main__ as service
from agent.updater import carry_out, journal
from agent.updater.board import PACKAGE, UpdateError
from agent.updater.keep import keep_current
from agent.updater.prepare import wish_of
from agent.updater.stage import stage
from contract import release
from tests.fakes.update_board import DIES, OFFLINE, ROOT, WELL, UpdateBoard

pytestmark = [
    pytest.mark.needs("dpkg", "dpkg-deb", "dpkg-query"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dpkg installs as root alone"),
]


@pytest.fixture
def bench(tmp_path):
    bench = UpdateBoard(tmp_path)
    bench.install(bench.package("1.0-1"))
    yield bench
    bench.end()


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def update(bench):
    """The service, and the staged program as a process of its own, as on a board."""
    if not service.take(bench.board):
        return None
    return subprocess.run(
        [bench.board.program], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_updater_and_the_contract_mean_the_same_package():
    control = (ROOT / "package" / "debian" / "control").read_text()
    assert f"Package: {PACKAGE}\n" in control
    assert release.PACKAGE == PACKAGE


def test_an_update_that_is_healthy_stays(bench):
    bench.request(bench.package("2.0-1"), "2.0-1")
    done = update(bench)
    assert done.returncode == 0, done.stderr
    assert bench.result() == {
        "job_id": "job-1",
        "succeeded": True,
        "from_version": "1.0-1",
        "to_version": "2.0-1",
        "reason": "",
    }
    assert (bench.installed(), bench.runs()) == ("ii 2.0-1", "2.0-1")
    assert not (bench.board.home / "journal.json").exists()
    assert not {"request.json", "taken.json", "package.deb"} & names_in(bench.board.inbox)


@pytest.mark.parametrize(
    ("agent", "scripts", "reason"),
    [
        (OFFLINE, {}, "acknowledged nothing"),
        (DIES, {}, "fails"),
        (WELL, {"preinst": "exit 1\n"}, "dpkg"),
        (WELL, {"postinst": "exit 1\n"}, "dpkg"),
    ],
)
def test_an_update_that_is_not_well_is_rolled_back(bench, agent, scripts, reason):
    file = bench.package("2.0-1", agent, scripts=scripts)
    bench.request(file, "2.0-1")
    assert service.take(bench.board)
    made = journal.load(bench.board.home)
    journal.save(journal.replace(made, health_timeout_s=0.5))
    assert carry_out.main(bench.board.home) == 1
    result = bench.result()
    assert not result["succeeded"]
    assert reason in result["reason"]
    assert "1.0-1 runs again" in result["reason"]
    assert (bench.installed(), bench.runs()) == ("ii 1.0-1", "1.0-1")


def test_a_config_file_that_a_human_changed_survives_update_and_roll_back(bench):
    config = bench.root / "etc" / "milepost" / "presets.toml"
    config.write_text("mine\n")
    bench.request(bench.package("2.0-1", DIES), "2.0-1")
    assert service.take(bench.board)
    made = journal.load(bench.board.home)
    journal.save(journal.replace(made, health_timeout_s=0.3))
    carry_out.main(bench.board.home)
    assert config.read_text() == "mine\n"
    bench.request(bench.package("3.0-1"), "3.0-1")
    assert update(bench).returncode == 0
    assert config.read_text() == "mine\n"


def test_a_second_update_rolls_back_to_the_first_without_packing_it_again(bench):
    first = bench.package("2.0-1")
    bench.request(first, "2.0-1")
    update(bench)
    assert bench.board.current_package.read_bytes() == first.read_bytes()
    bench.request(bench.package("3.0-1", scripts={"postinst": "exit 1\n"}), "3.0-1")
    update(bench)
    assert bench.installed() == "ii 2.0-1"
    assert bench.board.current_package.read_bytes() == first.read_bytes()


def test_what_runs_is_packed_again_as_it_was(bench, tmp_path):
    scripts = {"postinst": "echo configured >> $DPKG_ROOT/configured\n"}
    bench.install(bench.package("1.1-1", scripts=scripts))
    keep_current(bench.board, "1.1-1")
    kept = bench.board.current_package

    def described(file):
        listing = subprocess.run(
            ["dpkg-deb", "--contents", file], check=True, capture_output=True, text=True
        ).stdout
        lines = [line.split() for line in listing.splitlines()]
        files = sorted((one[0], one[1], " ".join(one[5:])) for one in lines)
        control = tmp_path / f"control-{file.stem}"
        subprocess.run(["dpkg-deb", "--control", file, control], check=True)
        parts = {path.name: sorted(path.read_text().splitlines()) for path in control.iterdir()}
        parts.pop("md5sums", None)  # dpkg makes them where a package has none
        return files, parts

    assert described(kept) == described(bench.folder / f"{PACKAGE}_1.1-1.deb")


REFUSALS = {
    "another key": lambda b, f: b.request(f, "2.0-1", key=Ed25519PrivateKey.generate()),
    "another architecture": lambda b, f: b.request(f, "2.0-1", architecture="mips64el"),
    "another version signed": lambda b, f: b.request(f, "9.9-1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_package_that_was_not_signed_as_what_it_is_is_refused(bench, case):
    REFUSALS[case](bench, bench.package("2.0-1"))
    assert update(bench) is None
    assert not bench.result()["succeeded"]
    assert bench.installed() == "ii 1.0-1"
    assert not bench.board.new_package.exists()


def test_bytes_that_were_changed_after_signing_are_refused(bench):
    file = bench.package("2.0-1")
    bench.request(file, "2.0-1")
    (bench.board.inbox / "package.deb").write_bytes(file.read_bytes() + b"\0")
    assert update(bench) is None
    assert "signed" in bench.result()["reason"]


def test_another_package_is_refused_though_it_is_signed(bench):
    bench.request(bench.package("2.0-1", name="sudo"), "2.0-1")
    assert update(bench) is None
    assert "sudo" in bench.result()["reason"]


def test_a_package_for_another_architecture_is_refused_though_it_is_signed_for_this_one(bench):
    bench.request(bench.package("2.0-1", architecture="mips64el"), "2.0-1")
    assert update(bench) is None
    assert "mips64el" in bench.result()["reason"]


def test_an_older_version_needs_a_signature_that_says_so(bench):
    bench.install(bench.package("2.0-1"))
    old = bench.folder / f"{PACKAGE}_1.0-1.deb"
    bench.request(old, "1.0-1")
    assert update(bench) is None
    assert "older" in bench.result()["reason"]
    bench.request(old, "1.0-1", downgrade=True)
    assert update(bench).returncode == 0
    assert bench.installed() == "ii 1.0-1"


def test_the_version_that_runs_already_is_a_success_without_doing_anything(bench):
    bench.request(bench.folder / f"{PACKAGE}_1.0-1.deb", "1.0-1")
    assert update(bench) is None
    assert bench.result()["succeeded"]
    assert "already" in bench.result()["reason"]


def test_a_release_key_that_others_can_change_does_not_count(bench):
    bench.trust(bench.key).chmod(0o666)
    bench.request(bench.package("2.0-1"), "2.0-1")
    assert update(bench) is None
    assert "no release key" in bench.result()["reason"]


@pytest.mark.parametrize(
    "request_text",
    [
        "",
        "[]",
        "{}",
        "{" * 5000,
        '{"job_id": 7}',
        '{"job_id": "j", "version": "../../x", "signature": ""}',
        '{"job_id": "j", "version": "2.0-1", "signature": "AAAA"}',
        '{"job_id": "j", "version": "2.0-1", "health_timeout_s": 1e99}',
        '{"job_id": "j", "version": "2.0-1", "health_timeout_s": true}',
    ],
)
def test_a_request_that_is_none_is_refused_and_forgotten(bench, request_text):
    (bench.board.inbox / "request.json").write_text(request_text)
    assert update(bench) is None
    assert not bench.result()["succeeded"]
    assert names_in(bench.board.inbox) == {"result.json"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["job_id", "version", "signature", "downgrade", "health_timeout_s"]),
)
def test_whatever_a_request_holds_it_is_a_wish_or_refused(value, name):
    request = {
        "job_id": "job-1",
        "version": "2.0-1",
        "signature": base64.b64encode(bytes(64)).decode(),
    }
    assert wish_of(request).job_id == "job-1"
    with contextlib.suppress(UpdateError):
        wish = wish_of({**request, name: value})
        assert 30 <= wish.health_timeout_s <= 86_400


def by_hand(bench, file, *more):
    """``milepost-agent update`` up to where the staged program takes over."""
    release = {"version": "2.0-1", "signature": bench.sign(file, "2.0-1")}
    file.with_suffix(".json").write_text(json.dumps(release))
    return update_cli._prepared(
        bench.board, file, None, no_cloud="--no-cloud" in more, timeout_s=60
    )


def test_an_update_by_hand_is_prepared_like_one_from_afar(bench):
    assert by_hand(bench, bench.package("2.0-1", OFFLINE), "--no-cloud")
    done = subprocess.run([bench.board.program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2.0-1 runs and is healthy" in done.stderr
    assert bench.installed() == "ii 2.0-1"
    assert names_in(bench.board.inbox) == set()


def test_an_update_by_hand_is_refused_in_words(bench, capsys):
    file = bench.package("2.0-1")
    bench.key = Ed25519PrivateKey.generate()
    with pytest.raises(SystemExit):
        by_hand(bench, file)
    said = capsys.readouterr().err
    assert "no release key of this board" in said
    assert "Nothing was changed" in said
    file.with_suffix(".json").write_text("{}")
    with pytest.raises(SystemExit):
        update_cli._prepared(bench.board, file, None, no_cloud=True, timeout_s=60)
    assert "release sign" in capsys.readouterr().err


def test_links_that_the_agents_user_laid_are_not_followed(bench, tmp_path):
    """Neither to read a secret, nor to write over a file, nor to leave the inbox."""
    secret = tmp_path / "shadow"
    secret.write_text("root only")
    file = bench.package("2.0-1")
    bench.request(file, "2.0-1")
    (bench.board.inbox / "package.deb").unlink()
    (bench.board.inbox / "package.deb").symlink_to(file)
    (bench.board.inbox / "result.json").symlink_to(secret)
    assert update(bench) is None
    assert secret.read_text() == "root only"
    assert "symbolic links" in bench.result()["reason"]
    bench.board.inbox.rename(tmp_path / "elsewhere")
    bench.board.inbox.symlink_to(tmp_path / "elsewhere")
    assert service.main(bench.board) == 1


def test_a_full_disk_is_refused_before_anything_is_changed(bench, monkeypatch):
    monkeypatch.setattr("agent.updater.prepare.MARGIN_BYTES", 10**18)
    bench.request(bench.package("2.0-1"), "2.0-1")
    assert update(bench) is None
    assert "free" in bench.result()["reason"]


def test_a_version_that_takes_the_board_down_each_time_is_rolled_back(bench):
    bench.request(bench.package("2.0-1"), "2.0-1")
    assert service.take(bench.board)
    made = journal.load(bench.board.home)
    journal.save(made.at(journal.Step.CHECKING))
    made = journal.load(bench.board.home)
    journal.save(journal.replace(made, tries=carry_out.MOST_TRIES))
    assert carry_out.main(bench.board.home) == 1
    assert "again and again" in bench.result()["reason"]
    assert bench.installed() == "ii 1.0-1"


def test_a_roll_back_that_fails_is_told_as_that(bench):
    bench.request(bench.package("2.0-1", scripts={"postinst": "exit 1\n"}), "2.0-1")
    assert service.take(bench.board)
    bench.board.current_package.write_bytes(b"damaged")
    assert carry_out.main(bench.board.home) == 1
    assert "ROLL BACK FAILED" in bench.result()["reason"]


def test_the_staged_program_needs_nothing_of_the_package(bench):
    bench.board.home.mkdir(exist_ok=True)
    stage(bench.board)
    text = bench.board.program.read_bytes().split(b"\n", 1)[0].decode()
    assert text.endswith(" -I")
    assert not text.removeprefix("#!").startswith(sys.prefix)
    done = subprocess.run(
        [bench.board.program], cwd="/", env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "no update is under way\n")


# --- the power is cut ------------------------------------------------------------------


def cut(bench, moment, command):
    board = bench.folder / "board.json"
    board.write_text(json.dumps(bench.board.as_json()))
    return subprocess.run(
        [sys.executable, ROOT / "tests/fakes/cut_updater.py", board, str(moment), command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def boot(bench):
    """What systemd does at the next boot: the resume unit, then the path unit."""
    bench.end()
    bench.systemctl("restart")
    if (bench.board.home / "journal.json").exists():
        subprocess.run([bench.board.program], capture_output=True, timeout=60, check=False)
    if {"request.json", "taken.json"} & names_in(bench.board.inbox):
        update(bench)


def whole_run(bench, agent, moment):
    """An update of a new bench whose power is cut at a moment; whether it was."""
    bench.request(bench.package("2.0-1", agent), "2.0-1")
    done = cut(bench, moment, "take")
    if done.returncode != -signal.SIGKILL:
        return False
    boot(bench)
    return True


def make(folder):
    folder.mkdir()
    return folder


def state_of(bench):
    audit = subprocess.run(
        [*bench.board.dpkg, "--audit"], check=True, capture_output=True, text=True
    ).stdout
    return {
        "dpkg": bench.installed(),
        "audit": audit,
        "runs": bench.runs(),
        "result": bench.result()["succeeded"],
        "left": {path.name for path in bench.board.home.iterdir()}
        - {"lock", "current.deb", "updater.pyz", "result.json"},
        "inbox": names_in(bench.board.inbox),
    }


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("agent", "version"), [(WELL, "2.0-1"), (DIES, "1.0-1")], ids=["healthy", "dies"]
)
@pytest.mark.parametrize("part", range(4))
def test_whenever_the_power_is_cut_one_version_runs_at_the_end(tmp_path, agent, version, part):
    """At every moment in turn, or every eleventh unless MILEPOST_EVERY_CUT is set."""
    step = 1 if os.environ.get("MILEPOST_EVERY_CUT") else 11
    cuts = 0
    for moment in range(part * step, 10_000, 4 * step):
        bench = UpdateBoard(make(tmp_path / str(moment)))
        try:
            bench.install(bench.package("1.0-1"))
            was_cut = whole_run(bench, agent, moment)
            assert state_of(bench) == {
                "dpkg": f"ii {version}",
                "audit": "",
                "runs": version,
                "result": version == "2.0-1",
                "left": set(),
                "inbox": {"result.json"},
            }, f"moment {moment}"
        finally:
            bench.end()
        if not was_cut:
            break
        cuts += 1
    assert cuts
