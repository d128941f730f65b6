"""Where the vehicle's identity stands, and how it changes without a moment that has none.

::

    identity/current              -> generations/<n>; a symbolic link, swapped by one rename
    identity/generations/<n>/     certificate.pem, key.pem (0600), identity.json
    identity/pending/             key.pem, certificate.pem, journal.json: one that is being made
    identity/lock                 held by whoever changes any of it

Invariants, at every moment and after a power cut at any of them:

1. ``current`` names a whole generation or does not exist: a generation is complete and
   synced before the link is renamed over the old one.
2. What is pending counts from its journal on, and no more from its commit on: key and
   certificate are synced before the journal names them.
3. Every step may be repeated; repeated, it ends where it would have ended.
4. No secret is ever readable for others: folders are 0700, files 0600 from their making.

What the files say is in ``records``. A key in a PKCS#11 token has no ``key.pem``; its label
stands in the journal and in ``identity.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.errors import IdentityError, StateError
from agent.files import sync_folder, write_atomically
from agent.identity.records import (
    CERTIFICATE_FILE,
    FACTS_FILE,
    JOURNAL_FILE,
    KEY_FILE,
    Identity,
    Pending,
    PendingCertificate,
    facts_of,
    identity_of,
    journal_of,
    pending_of,
)

FOLDER: Final = "identity"
_CURRENT: Final = "current"
_PENDING: Final = "pending"
_GENERATIONS: Final = "generations"
_LOCK: Final = "lock"
_REMOVED: Final = "removed"


class IdentityStore:
    """The identity in one state directory; see the module. Not thread-safe.

    Reading needs no lock. Whoever changes anything holds ``locked`` from the first step to
    the last. Every method raises ``StateError`` where the directory cannot be used, and
    ``IdentityError`` where what stands there is broken.
    """

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / FOLDER
        self._pending = self.folder / _PENDING
        self._generations = self.folder / _GENERATIONS

    # --- reading ---------------------------------------------------------------------

    def current(self) -> Identity | None:
        """The identity that counts; ``None`` before the first provisioning."""
        with self._usable():
            try:
                name = (self.folder / _CURRENT).readlink().name
            except FileNotFoundError:
                return None
            return self._generation(int(name))

    def holds(self, path: Path) -> bool:
        """Whether a certificate or key is one of this store's."""
        return path.is_relative_to(self.folder)

    def others(self) -> list[Identity]:
        """Generations beside the current one, oldest first: predecessors not removed yet."""
        now = self.current()
        with self._usable():
            numbers = self._numbers()
            kept = [n for n in numbers if now is not None and n < now.generation]
            return [self._generation(n) for n in kept]

    def pending(self) -> Pending | None:
        """What a provisioning or rotation left unfinished; ``None`` if nothing."""
        with self._usable():
            try:
                kept = json.loads((self._pending / JOURNAL_FILE).read_bytes())
            except FileNotFoundError:
                return None
            pending = pending_of(self._pending, kept)
        now = self.current()
        if now and pending.certificate and pending.certificate.certificate_id == now.certificate_id:
            return None  # committed; a power cut came before it was cleared away
        return pending

    def next_generation(self) -> int:
        """The number of the generation that the next commit makes."""
        now = self.current()
        return now.generation + 1 if now else 1

    # --- changing --------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the identity meanwhile; also frees it if the process dies.

        Raises:
            StateError: somebody else does, or the directory cannot be written.
        """
        with self._usable():
            self._make_folders()
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StateError(
                    f"another process is provisioning or rotating in {self.folder}",
                    hint="Wait for its end; `milepost-agent status` and the journal tell of it.",
                ) from None
            yield
        finally:
            os.close(lock)

    def begin(
        self, template: str, *, key_pem: bytes | None = None, key_label: str | None = None
    ) -> Pending:
        """Keep a new key; what was pending before is discarded."""
        if (key_pem is None) == (key_label is None):
            raise ValueError("a key is a PEM or stands in a token")
        self.discard_pending()
        with self._usable():
            self._make_folders()
            self._pending.mkdir(mode=0o700, exist_ok=True)
            if key_pem is not None:
                _write(self._pending / KEY_FILE, key_pem)
            self._journal(Pending.begun(self._pending, template, key_label))
        return self._must_be_pending()

    def keep_certificate(
        self, certificate_pem: bytes, *, certificate_id: str, token: str, received_at: str
    ) -> Pending:
        """Keep the certificate that was issued for the pending key, and its token.

        One that was kept before gives way, e.g. since its token has expired.
        """
        pending = self._must_be_pending()
        with self._usable():
            # the journal must never speak of another certificate than the one beside it
            if pending.certificate is not None:
                self._journal(replace(pending, certificate=None, vehicle_id=None))
            _write(pending.certificate_file, certificate_pem)
            kept = PendingCertificate(certificate_id, token, received_at)
            self._journal(replace(pending, certificate=kept, vehicle_id=None))
        return self._must_be_pending()

    def keep_registration(self, vehicle_id: str) -> Pending:
        """Keep that the pending certificate is registered, and as whom."""
        pending = self._must_be_pending()
        with self._usable():
            self._journal(replace(pending, vehicle_id=vehicle_id))
        return self._must_be_pending()

    def commit(self, *, obtained_at: str) -> Identity:
        """The pending identity becomes the current one; its predecessor stays in ``others``.

        Raises:
            IdentityError: it is not registered.
        """
        pending = self._must_be_pending()
        facts = facts_of(pending, obtained_at)
        number = self.next_generation()
        with self._usable():
            folder = self._generations / str(number)
            if folder.exists():  # a power cut came before it counted
                shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            names = (
                (CERTIFICATE_FILE,) if pending.key_file is None else (CERTIFICATE_FILE, KEY_FILE)
            )
            for name in names:
                _write(folder / name, (self._pending / name).read_bytes())
            _write(folder / FACTS_FILE, _json(facts))
            sync_folder(self._generations)
            self._point_to(number)
        self.discard_pending()
        return self._generation(number)

    def discard_pending(self) -> None:
        """Forget what is pending; a key in a token is its maker's to destroy."""
        with self._usable():
            if not self._pending.exists():
                return
            (self._pending / JOURNAL_FILE).unlink(missing_ok=True)
            sync_folder(self._pending)
            shutil.rmtree(self._pending)

    def remove(self, generation: int) -> None:
        """Remove a predecessor that the cloud has retired.

        Raises:
            ValueError: it is the current one.
        """
        now = self.current()
        if now is not None and generation == now.generation:
            raise ValueError("the current identity is never removed")
        with self._usable():
            # renamed first: what a power cut leaves of it is no generation
            removed = self._generations / _REMOVED
            shutil.rmtree(removed, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                (self._generations / str(generation)).rename(removed)
            shutil.rmtree(removed, ignore_errors=True)

    # --- inside ----------------------------------------------------------------------

    def _make_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._generations.mkdir(mode=0o700, exist_ok=True)

    def _numbers(self) -> list[int]:
        if not self._generations.is_dir():
            return []
        names = [path.name for path in self._generations.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def _generation(self, number: int) -> Identity:
        folder = self._generations / str(number)
        with self._usable():
            facts = json.loads((folder / FACTS_FILE).read_bytes())
            return identity_of(folder, facts)

    def _must_be_pending(self) -> Pending:
        pending = self.pending()
        if pending is None:
            raise IdentityError(
                "no provisioning or rotation is under way", hint="Begin one: `provision`, `rotate`."
            )
        return pending

    def _journal(self, pending: Pending) -> None:
        _write(self._pending / JOURNAL_FILE, _json(journal_of(pending)))

    def _point_to(self, number: int) -> None:
        link = self.folder / f"{_CURRENT}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(_GENERATIONS) / str(number))
        link.replace(self.folder / _CURRENT)
        sync_folder(self.folder)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"state.dir: cannot use {error.filename or self.folder}: {error.strerror}",
                hint="It must have room and belong to the user that the agent runs as.",
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise IdentityError(
                f"the identity in {self.folder} is broken: {error!r}",
                hint="Restore it from a backup, or move that folder away and run:"
                " milepost-agent provision",
            ) from error


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, data, mode=0o600)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"
