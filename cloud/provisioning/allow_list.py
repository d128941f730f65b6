"""The allow list as operators write it: single lines, and files of them.

A file is CSV with a heading, ``serial_number`` and ``vehicle_id``, and ``vehicle_type`` where
wanted; commas or semicolons; other columns are left alone. It is taken as a whole or not at
all, and every fault is told with its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cloud.errors import ConfigError
from cloud.pki import check_vehicle_id
from cloud.provisioning.ports import AllowedVehicle

SERIAL_NUMBER_PATTERN: Final = r"[A-Za-z0-9:_./-]{1,128}"
VEHICLE_TYPE_PATTERN: Final = r"[A-Za-z0-9:_./-]{0,128}"
"""As an attribute of an AWS IoT thing may be."""

REQUIRED: Final = ("serial_number", "vehicle_id")
OPTIONAL: Final = "vehicle_type"
MAX_FAULTS_SHOWN: Final = 20
_HINT: Final = (
    "Nothing was added. The file begins with the line serial_number,vehicle_id,vehicle_type; "
    "the last column may be left out."
)


def allowed_vehicle(serial_number: str, vehicle_id: str, vehicle_type: str = "") -> AllowedVehicle:
    """A line of the allow list.

    Raises:
        ConfigError: a value is not possible; it is named.
    """
    if not re.fullmatch(SERIAL_NUMBER_PATTERN, serial_number):
        raise ConfigError(
            f"{serial_number!r} cannot be a serial number",
            hint="as the board tells it: letters, digits, ':', '_', '.', '/' and '-'",
        )
    check_vehicle_id(vehicle_id)
    if not re.fullmatch(VEHICLE_TYPE_PATTERN, vehicle_type):
        raise ConfigError(
            f"{vehicle_type!r} cannot be a vehicle type",
            hint="use letters, digits, ':', '_', '.', '/' and '-'",
        )
    return AllowedVehicle(serial_number, vehicle_id, vehicle_type)


@dataclass(frozen=True, slots=True)
class Import:
    """What a file asks for."""

    new: Sequence[AllowedVehicle]
    known: int
    """Lines that the allow list has already."""
    ignored_columns: Sequence[str]


def parse_csv(text: str, present: Sequence[AllowedVehicle], name: str) -> Import:
    """Read a file; ``present`` is the allow list, ``name`` the file's name for messages.

    Raises:
        ConfigError: names every line that cannot be taken (the first of them, if many).
    """
    rows, columns = _rows(text, name)
    taken = _Taken(present)
    new: list[AllowedVehicle] = []
    known = 0
    faults: list[str] = []
    for line, row in rows:
        try:
            one = allowed_vehicle(*(row[column] for column in (*REQUIRED, OPTIONAL)))
            if taken.has(one):
                known += 1
            else:
                taken.add(one, f"line {line}")
                new.append(one)
        except ConfigError as error:
            faults.append(f"{name}, line {line}: {error}")
    if faults:
        more = len(faults) - MAX_FAULTS_SHOWN
        shown = faults[:MAX_FAULTS_SHOWN] + ([f"… and {more} more"] if more > 0 else [])
        raise ConfigError("\n".join(shown), hint=_HINT)
    return Import(new, known, [one for one in columns if one not in {*REQUIRED, OPTIONAL}])


class _Taken:
    """Which serial numbers and vehicles are spoken for, and where that stands."""

    def __init__(self, present: Sequence[AllowedVehicle]) -> None:
        self._lines = {one.serial_number: one for one in present}
        self._where: dict[str, str] = {}
        self._serial_of = {one.vehicle_id: one.serial_number for one in present}

    def has(self, one: AllowedVehicle) -> bool:
        """Whether the allow list says just this already."""
        there = self._lines.get(one.serial_number)
        return (
            there is not None
            and there.vehicle_id == one.vehicle_id
            and one.serial_number not in self._where
        )

    def add(self, one: AllowedVehicle, where: str) -> None:
        there = self._lines.get(one.serial_number)
        if there is not None:
            raise ConfigError(
                f"serial number {one.serial_number} is {there.vehicle_id} already, "
                f"{self._told(one.serial_number)}"
            )
        other = self._serial_of.get(one.vehicle_id)
        if other is not None:
            raise ConfigError(
                f"{one.vehicle_id} is the board with serial number {other} already, "
                f"{self._told(other)}"
            )
        self._lines[one.serial_number] = one
        self._serial_of[one.vehicle_id] = one.serial_number
        self._where[one.serial_number] = where

    def _told(self, serial_number: str) -> str:
        return f"by {self._where.get(serial_number, 'the allow list')}"


def _rows(text: str, name: str) -> tuple[Iterator[tuple[int, Mapping[str, str]]], Sequence[str]]:
    text = text.removeprefix("\ufeff")
    heading = text.lstrip().split("\n", 1)[0]
    delimiter = ";" if heading.count(";") > heading.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = _told_lines(reader, name)
    columns = [one.strip().lower() for one in next(lines, (0, []))[1]]
    if missing := [one for one in REQUIRED if one not in columns]:
        raise ConfigError(f"{name} has no column {' and no column '.join(missing)}", hint=_HINT)
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{name} has two columns of one name", hint=_HINT)

    def rows() -> Iterator[tuple[int, Mapping[str, str]]]:
        for line, cells in lines:
            row = {**dict.fromkeys((*columns, OPTIONAL), ""), **dict(zip(columns, cells))}  # noqa: B905  short and long lines are taken
            yield line, {column: value.strip() for column, value in row.items()}

    return rows(), columns


def _told_lines(reader: Iterator[list[str]], name: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that hold something, with their numbers."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigError(
                f"{name}, line {getattr(reader, 'line_num', 0)}: no CSV: {error}", hint=_HINT
            ) from error
        if any(cell.strip() for cell in cells):
            yield getattr(reader, "line_num", 0), cells
