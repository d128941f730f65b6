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

A key in a PKCS#11 token has no ``key.pem``; its label stands in the journal and in
``identity.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import IdentityError, StateError
from agent.files import sync_folder, write_atomically

FOLDER: Final = "identity"
CERTIFICATE_FILE: Final = "certificate.pem"
KEY_FILE: Final = "key.pem"
_FACTS_FILE: Final = "identity.json"
_JOURNAL_FILE: Final = "journal.json"
_CURRENT: Final = "current"
_PENDING: Final = "pending"
_GENERATIONS: Final = "generations"
_LOCK: Final = "lock"
_REMOVED: Final = "removed"


@dataclass(frozen=True, slots=True)
class Identity:
    """One generation: whom the vehicle is to the broker, and with what it proves it.

    Exactly one of ``key_file`` and ``key_label`` (of a key in a token) is set.
    """

    generation: int
    vehicle_id: str
    certificate_id: str
    template: str
    obtained_at: str
    """RFC 3339, by the system's clock at that time."""

    certificate_file: Path
    key_file: Path | None
    key_label: str | None


@dataclass(frozen=True, slots=True)
class PendingCertificate:
    """Issued, kept, not yet registered; ``token`` proves to the cloud whose it is."""

    certificate_id: str
    token: str
    received_at: str
    """RFC 3339: the token counts for an hour."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An unfinished provisioning or rotation: a key, and what was got for it so far."""

    template: str
    key_file: Path | None
    key_label: str | None
    certificate_file: Path
    """Is there once ``certificate`` is set."""

    certificate: PendingCertificate | None = None
    vehicle_id: str | None = None
    """As registered; the identity can be used from then on."""


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
                kept = json.loads((self._pending / _JOURNAL_FILE).read_bytes())
            except FileNotFoundError:
                return None
            pending = self._parsed_pending(kept)
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
            self._journal({"template": template, "key_label": key_label})
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
                self._journal({"template": pending.template, "key_label": pending.key_label})
            _write(pending.certificate_file, certificate_pem)
            self._journal(
                {
                    "template": pending.template,
                    "key_label": pending.key_label,
                    "certificate_id": certificate_id,
                    "token": token,
                    "received_at": received_at,
                }
            )
        return self._must_be_pending()

    def keep_registration(self, vehicle_id: str) -> Pending:
        """Keep that the pending certificate is registered, and as whom."""
        self._must_be_pending()
        with self._usable():
            journal = json.loads((self._pending / _JOURNAL_FILE).read_bytes())
            self._journal({**journal, "vehicle_id": vehicle_id})
        return self._must_be_pending()

    def commit(self, *, obtained_at: str) -> Identity:
        """The pending identity becomes the current one; its predecessor stays in ``others``.

        Raises:
            IdentityError: it is not registered.
        """
        pending = self._must_be_pending()
        if pending.certificate is None or pending.vehicle_id is None:
            raise IdentityError(
                "the pending identity is not registered",
                hint="Provisioning or rotation must go on first.",
            )
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
            facts = {
                "vehicle_id": pending.vehicle_id,
                "certificate_id": pending.certificate.certificate_id,
                "template": pending.template,
                "obtained_at": obtained_at,
                "key": "file" if pending.key_label is None else "pkcs11",
                "key_label": pending.key_label,
            }
            _write(folder / _FACTS_FILE, _json(facts))
            sync_folder(self._generations)
            self._point_to(number)
        self.discard_pending()
        return self._generation(number)

    def discard_pending(self) -> None:
        """Forget what is pending; a key in a token is its maker's to destroy."""
        with self._usable():
            if not self._pending.exists():
                return
            (self._pending / _JOURNAL_FILE).unlink(missing_ok=True)
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
            facts = json.loads((folder / _FACTS_FILE).read_bytes())
            label: str | None = facts["key_label"]
            return Identity(
                generation=number,
                vehicle_id=str(facts["vehicle_id"]),
                certificate_id=str(facts["certificate_id"]),
                template=str(facts["template"]),
                obtained_at=str(facts["obtained_at"]),
                certificate_file=folder / CERTIFICATE_FILE,
                key_file=folder / KEY_FILE if label is None else None,
                key_label=label,
            )

    def _parsed_pending(self, kept: dict[str, Any]) -> Pending:
        label: str | None = kept["key_label"]
        certificate = None
        if "certificate_id" in kept:
            certificate = PendingCertificate(
                str(kept["certificate_id"]), str(kept["token"]), str(kept["received_at"])
            )
        return Pending(
            template=str(kept["template"]),
            key_file=self._pending / KEY_FILE if label is None else None,
            key_label=label,
            certificate_file=self._pending / CERTIFICATE_FILE,
            certificate=certificate,
            vehicle_id=kept.get("vehicle_id"),
        )

    def _must_be_pending(self) -> Pending:
        pending = self.pending()
        if pending is None:
            raise IdentityError(
                "no provisioning or rotation is under way", hint="Begin one: `provision`, `rotate`."
            )
        return pending

    def _journal(self, entry: dict[str, Any]) -> None:
        _write(self._pending / _JOURNAL_FILE, _json(entry))

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
