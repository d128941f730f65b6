"""Apply and undo on a board's root: exact, idempotent, safe against cuts and against people."""

import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.board import apply as carrying
from agent.board import plan as planning
from agent.board.merge import BEGIN, put, take_out
from agent.board.plan import Places, find_boot, plan, plan_undo
from agent.board.record import Book
from agent.board.render import How, render
from agent.board.wanted import Wanted
from agent.errors import StateError
from tests.fakes.board_root import make_root, tree

PI4 = Wanted(board="pi4", hat="mcp2515", pps_gpio=18, shutdown_gpio=3)
OTHER = Wanted(board="pi4", hat="mcp2518fd", gps="usb", bitrate=250_000, tmp_in_memory=False)
GENERIC = Wanted(board="generic", gps="usb", can=("can0",))


@pytest.fixture(scope="module", autouse=True)
def no_disk():
    """The order of the writes is tested here, by cuts between them; the disk's part takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Power(BaseException):
    """The power goes."""


def apply(root, wanted, *, force=False):
    book, places = Book(root), Places(root, find_boot(root))
    record = book.read()
    changes = plan(render(wanted), places, record, force=force)
    with book.alone():
        carrying.apply(changes, places, book, record, wanted.model_dump(mode="json"))
    return [change.path for change in changes if change.is_one]


def undo(root, *, force=False):
    book, places = Book(root), Places(root, find_boot(root))
    record = book.read()
    changes = plan_undo(record, places, force=force)
    with book.alone():
        carrying.undo(changes, places, book, record)


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "root")


def test_undo_is_exact(root):
    before = tree(root)
    assert apply(root, PI4)
    assert tree(root) != before
    undo(root)
    assert tree(root) == before


def test_the_second_apply_changes_nothing(root):
    apply(root, PI4)
    after = tree(root)
    assert apply(root, PI4) == []
    assert tree(root) == after


def test_another_apply_leaves_nothing_of_the_first(root, tmp_path):
    before = tree(root)
    apply(root, PI4)
    apply(root, OTHER)
    fresh = make_root(tmp_path / "fresh")
    apply(fresh, OTHER)
    ours = {name: what for name, what in tree(root).items() if "milepost-board" not in name}
    theirs = {name: what for name, what in tree(fresh).items() if "milepost-board" not in name}
    assert ours == theirs
    undo(root)
    assert tree(root) == before


def test_the_console_goes_and_the_other_words_stay(root):
    apply(root, PI4)
    line = (root / "boot/firmware/cmdline.txt").read_text()
    assert line == (
        "console=tty1 root=PARTUUID=4c-02 rootfstype=ext4 rootwait quiet cgroup_enable=memory\n"
    )


def test_modes_and_owners_stay(root):
    (root / "etc/default/gpsd").chmod(0o640)
    apply(root, PI4)
    assert (root / "etc/default/gpsd").stat().st_mode & 0o777 == 0o640


def test_a_service_that_is_enabled_already_is_left_alone(root):
    link = root / "etc/systemd/system/multi-user.target.wants/gpsd.service"
    link.parent.mkdir(parents=True)
    link.symlink_to("/lib/systemd/system/gpsd.service")
    apply(root, PI4)
    assert str(link.readlink()) == "/lib/systemd/system/gpsd.service"
    undo(root)
    assert link.is_symlink()


def test_before_bookworm_the_firmware_reads_from_boot(tmp_path):
    root = make_root(tmp_path, {"boot/config.txt": b"", "boot/cmdline.txt": b"console=serial0\n"})
    apply(root, PI4)
    assert BEGIN in (root / "boot/config.txt").read_text()
    assert (root / "boot/cmdline.txt").read_bytes() == b"cgroup_enable=memory\n"


def test_a_pi_without_its_boot_partition_is_refused(tmp_path):
    root = make_root(tmp_path, {})
    with pytest.raises(StateError, match=r"config\.txt") as refused:
        apply(root, PI4)
    assert "--boot" in refused.value.hint
    assert not (root / "var/lib/milepost-board").exists()


# --- people ---------------------------------------------------------------------------------


def test_what_a_person_changed_since_is_not_overwritten(root):
    apply(root, PI4)
    (root / "etc/default/gpsd").write_text('DEVICES="/dev/mine"\n')
    for again in (lambda: apply(root, OTHER), lambda: undo(root)):
        with pytest.raises(StateError, match=r"somebody else.*/etc/default/gpsd"):
            again()
    assert (root / "etc/default/gpsd").read_text() == 'DEVICES="/dev/mine"\n'


def test_force_keeps_what_a_person_added_and_takes_ours_out(root):
    apply(root, PI4)
    config = root / "boot/firmware/config.txt"
    before_it = config.read_text().partition(BEGIN)[0]
    config.write_text(config.read_text() + "dtoverlay=theirs\n")
    gpsd = root / "etc/default/gpsd"
    gpsd.write_text(gpsd.read_text() + "# theirs\n")
    cmdline = root / "boot/firmware/cmdline.txt"
    cmdline.write_text("theirs=1 " + cmdline.read_text())
    (root / "etc/systemd/journald.conf.d/50-milepost.conf").write_text("# theirs\n")
    undo(root, force=True)
    assert config.read_text() == before_it + "dtoverlay=theirs\n"
    assert gpsd.read_text().endswith("# theirs\n")
    assert 'DEVICES=""' in gpsd.read_text()
    assert 'GPSD_OPTIONS=""' in gpsd.read_text()
    assert "theirs=1" in cmdline.read_text()
    assert "console=serial0,115200" in cmdline.read_text()
    assert "cgroup_enable" not in cmdline.read_text()
    assert (root / "etc/systemd/journald.conf.d/50-milepost.conf").read_text() == "# theirs\n"
    assert not (root / "etc/systemd/system/tmp.mount").exists()


def test_after_a_forced_apply_undo_comes_back_to_what_the_person_had(root):
    apply(root, PI4)
    config = root / "boot/firmware/config.txt"
    before_it = config.read_text().partition(BEGIN)[0]
    config.write_text(config.read_text() + "dtoverlay=theirs\n")
    apply(root, OTHER, force=True)
    assert config.read_text().count(BEGIN) == 1
    assert "mcp251xfd" in config.read_text()
    assert "mcp2515" not in config.read_text()
    undo(root)
    assert config.read_text() == before_it + "dtoverlay=theirs\n"


def test_what_a_person_put_back_by_hand_is_no_obstacle(root):
    before = tree(root)
    original = (root / "etc/default/gpsd").read_bytes()
    apply(root, PI4)
    (root / "etc/default/gpsd").write_bytes(original)
    undo(root)
    assert tree(root) == before


def test_a_folder_where_a_file_should_be_is_told(root):
    (root / "etc/chrony/conf.d/milepost.conf").mkdir(parents=True)
    with pytest.raises(StateError, match="neither a file nor a link"):
        apply(root, PI4)


def test_two_at_once_are_refused(root):
    with Book(root).alone(), pytest.raises(StateError, match="is running"), Book(root).alone():
        pass


def test_a_damaged_record_is_told_and_nothing_is_done(root):
    apply(root, PI4)
    Book(root).file.write_text("{")
    before = tree(root)
    with pytest.raises(StateError, match="damaged"):
        undo(root)
    assert tree(root) == before


# --- cuts -----------------------------------------------------------------------------------


def cut_at(monkeypatch, step):
    """The power goes when so many writes have been asked to reach the disk.

    Each of them follows upon something that is done, and comes before something that is not:
    a temporary file written, not yet renamed; renamed; a folder made; the record written.
    """
    counter = itertools.count()

    def fsync(_descriptor):
        if next(counter) == step:
            raise Power

    monkeypatch.setattr(os, "fsync", fsync)


def cut_run(monkeypatch, step, run):
    with monkeypatch.context() as patch:
        cut_at(patch, step)
        try:
            run()
        except Power:
            return True
    return False


def else_nothing(root):
    """What a cut before the first record may leave: its folder, and the record half written."""
    folder = root / "var/lib/milepost-board"
    if folder.is_dir() and Book(root).read() is None:
        (folder / "board.json.new").unlink(missing_ok=True)
        folder.rmdir()


@pytest.mark.parametrize("then", ["undo", "apply", "other"])
def test_a_cut_in_the_middle_of_an_apply_can_be_finished_or_undone(monkeypatch, tmp_path, then):
    for step in itertools.count():
        root = make_root(tmp_path / str(step))
        before = tree(root)
        if not cut_run(monkeypatch, step, lambda root=root: apply(root, PI4)):
            break
        if then == "undo":
            if Book(root).read() is not None:
                undo(root)
        else:
            apply(root, PI4 if then == "apply" else OTHER)
            assert Book(root).read().is_whole
            undo(root)
        else_nothing(root)
        assert tree(root) == before, step
    assert step >= 30


def test_a_cut_in_a_second_apply_or_an_undo_can_be_finished(monkeypatch, tmp_path):
    runs = (lambda root: apply(root, OTHER), undo)
    for number, run in enumerate(runs):
        for step in itertools.count():
            root = make_root(tmp_path / f"{number}-{step}")
            before = tree(root)
            apply(root, PI4)
            was_cut = cut_run(monkeypatch, step, lambda root=root, run=run: run(root))
            if Book(root).read() is not None:
                undo(root)
            assert tree(root) == before, step
            if not was_cut:
                break
        assert step >= 15


# --- any files ------------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"[all]",
            b"[cm4]",
            b"dtparam=spi=on",
            b'DEVICES="/dev/x"',
            b" export GPSD_OPTIONS='-b'",
            b"#DEVICES=1",
            BEGIN.encode(),
            b"# <<< milepost board apply",
            b"console=serial0,115200 console=tty1  console=ttyAMA0",
            b"\xff\xfe\x00 odd bytes",
            b"a\r",
        ]
    ),
    max_size=6,
)
CONTENT = st.builds(
    lambda lines, end: b"\n".join(lines) + end, LINES, st.sampled_from([b"", b"\n", b"\n\n"])
)
PATHS = sorted({target.path.replace("$boot", "boot/firmware") for target in render(PI4)})
FILES = st.dictionaries(
    st.sampled_from(PATHS),
    st.one_of(CONTENT, st.sampled_from(["/dev/null", "/lib/systemd/system/gpsd.service"])),
)


@settings(max_examples=60)
@given(files=FILES, config=CONTENT, wanted=st.sampled_from([PI4, OTHER, GENERIC]), data=st.data())
def test_undo_after_any_applies_gives_any_files_back(tmp_path_factory, files, config, wanted, data):
    files = files | {"boot/firmware/config.txt": config}
    root = make_root(tmp_path_factory.mktemp("root"), files)
    before = tree(root)
    apply(root, wanted)
    assert apply(root, wanted) == []
    if data.draw(st.booleans()):
        apply(root, data.draw(st.sampled_from([PI4, OTHER, GENERIC])))
    undo(root)
    assert tree(root) == before


@given(before=st.none() | CONTENT, how=st.sampled_from([How.BLOCK, How.VARIABLES, How.WORDS]))
def test_putting_twice_is_putting_once_and_odd_bytes_come_through(before, how):
    content = {
        How.BLOCK: "dtparam=x\n",
        How.VARIABLES: 'DEVICES="/dev/y"\nUSBAUTO="false"\n',
        How.WORDS: "-console=serial0\n-console=ttyAMA0\n+cgroup_enable=memory\n",
    }[how]
    once = put(how, content, before)
    assert put(how, content, once) == once
    assert (before or b"").count(b"\xff\xfe\x00") == once.count(b"\xff\xfe\x00") or how is How.BLOCK
    if how is How.WORDS:
        assert not [word for word in once.split() if word.startswith(b"console=serial0")]


def test_a_variable_that_was_not_there_goes_again():
    with_it = put(How.VARIABLES, 'USBAUTO="false"\n', b'DEVICES=""\n')
    assert with_it == b'DEVICES=""\nUSBAUTO="false"\n'
    out = take_out(How.VARIABLES, 'USBAUTO="false"\n', with_it + b"x=1\n", b'DEVICES=""\n')
    assert out == b'DEVICES=""\nx=1\n'


def test_planning_writes_nothing(root):
    before = tree(root)
    planning.plan(render(PI4), Places(root, find_boot(root)), None)
    assert tree(root) == before
