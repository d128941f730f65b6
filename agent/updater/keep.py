"""Keep the package that runs now, so that it can be installed again.

What an earlier update installed is still there. Else the package is packed again from
what dpkg knows of it and what is on the disk, as dpkg-repack(1) does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from agent.updater.board import PACKAGE, Board, UpdateError, ask, run
from agent.updater.journal import sync_folder

_TREE: Final = "repack"
_DRAFT: Final = "repack.deb"
_NOT_OF_A_PACKAGE: Final = ("Status:", "Conffiles:", "Config-Version:")
"""Fields of dpkg's status that stand in no package (deb822(5))."""


def keep_current(board: Board, installed: str) -> None:
    """Leave the installed version as ``board.current_package``.

    Raises:
        UpdateError: it cannot be packed.
        OSError: likewise, e.g. the disk is full.
    """
    kept = board.current_package
    _remove_drafts(board)
    if kept.exists():
        field = run("dpkg-deb", "--field", str(kept), "Version")
        if field.code == 0 and field.output.decode().strip() == installed:
            return
    pack(board, kept)


def pack(board: Board, target: Path) -> None:
    """Pack the installed package again.

    Raises:
        UpdateError, OSError: as ``keep_current``.
    """
    tree, draft = board.home / _TREE, board.home / _DRAFT
    try:
        config_files, changed = _config_files(board)
        _copy_files(board, tree, without=changed)
        _write_control(board, tree / "DEBIAN", config_files)
        # it is read once, if ever: fast to make counts, on the slowest boards
        ask("dpkg-deb", "-Zgzip", "-z1", "--build", str(tree), str(draft))
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
        sync_folder(target.parent)
    finally:
        _remove_drafts(board)


def _remove_drafts(board: Board) -> None:
    shutil.rmtree(board.home / _TREE, ignore_errors=True)
    (board.home / _DRAFT).unlink(missing_ok=True)


def _config_files(board: Board) -> tuple[list[str], set[str]]:
    """Those that are as the package has them, and those that a human has changed or removed.

    The latter must not be packed: dpkg would take them for the package's own, and the next
    update would write over them. Left out, they stay where they are.
    """
    told = ask(*board.dpkg_query, "--show", "--showformat=${Conffiles}", PACKAGE)
    original, changed = [], set()
    for line in told.splitlines():
        name, digest = [*line.split(), "", ""][:2]
        try:
            content = (board.root / name.lstrip("/")).read_bytes()
        except OSError:
            content = b""
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == digest:
            original.append(name)
        elif name:
            changed.add(name)
    return original, changed


def _copy_files(board: Board, tree: Path, without: set[str]) -> None:
    listed = ask(*board.dpkg_query, "--listfiles", PACKAGE).splitlines()
    names = [
        name for name in listed if name.startswith("/") and name != "/." and name not in without
    ]
    folders = {str(parent) for name in names for parent in Path(name).parents}
    tree.mkdir(mode=0o755, parents=True)
    for name in names:
        source, copy = board.root / name.lstrip("/"), tree / name.lstrip("/")
        try:
            status = source.lstat()
        except FileNotFoundError:
            continue  # somebody has removed it; the roll back shall not fail for that
        # /lib is a link where the package has a folder (merged /usr)
        if stat.S_ISDIR(status.st_mode) or name in folders:
            copy.mkdir(exist_ok=True)
            _own(copy, source.stat())
        elif stat.S_ISLNK(status.st_mode):
            copy.symlink_to(source.readlink())
        else:
            try:
                copy.hardlink_to(source)
            except OSError:
                shutil.copy2(source, copy)
                _own(copy, status)


def _own(copy: Path, like: os.stat_result) -> None:
    os.chown(copy, like.st_uid, like.st_gid)
    copy.chmod(stat.S_IMODE(like.st_mode))


def _write_control(board: Board, folder: Path, config_files: list[str]) -> None:
    folder.mkdir(mode=0o755)
    text = "".join(f"{name}\n" for name in config_files)
    if text:
        (folder / "conffiles").write_text(text, encoding="utf-8")
    status = ask(*board.dpkg_query, "--status", PACKAGE)
    lines: list[str] = []
    skipping = False
    for line in status.splitlines():
        if not line.startswith(" "):
            skipping = line.startswith(_NOT_OF_A_PACKAGE)
        if not skipping:
            lines.append(line)
    (folder / "control").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ask(*board.dpkg_query, "--control-list", PACKAGE).split():
        if name == "control":
            continue
        answer = run(*board.dpkg_query, "--control-show", PACKAGE, name)
        if answer.code:
            raise UpdateError(f"dpkg-query: {answer.last_line}")
        path = folder / name
        path.write_bytes(answer.output)
        path.chmod(0o755 if name in {"preinst", "postinst", "prerm", "postrm", "config"} else 0o644)
