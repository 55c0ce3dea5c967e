"""Event files of TensorBoard: records of protocol buffers, of which only scalars are read.

Read here, as TensorBoard's own reader imports TensorFlow wherever it is installed, which takes
seconds and prints banners, and takes a minute for a million events.

A record is its length (8 bytes, little-endian), a checksum of these, the data and a checksum. The
data is an `Event` (tensorboard/compat/proto/event.proto): 2 step, 5 summary, whose 1 are values: 1
tag, 2 simple_value, 8 tensor (1 dtype, 4 tensor_content, 5 float_val, 6 double_val).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from agclip.cli.logs.readers._columns import Columns

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""
RECORD = 1 << 28
"""Bytes of the largest record; one that claims more is damaged."""

_HEADER = struct.Struct("<QI")
_CONTENT = {1: "<f", 2: "<d", 3: "<i", 9: "<q", 19: "<e"}
"""How one number of a tensor is packed, by dtype."""


class DamagedError(Exception):
    """A record that is no event."""


def is_events(head: bytes) -> bool:
    """Tell whether bytes begin an event file: a length with its checksum."""
    if len(head) < _HEADER.size:
        return False
    checksum: int = _HEADER.unpack_from(head)[1]
    return checksum == _masked_crc(head[:8])


def add_events(stream: BinaryIO, columns: Columns) -> None:
    """Add the scalars of an event file, up to where it is cut off or damaged."""
    number = 0
    while header := stream.read(_HEADER.size):
        number += 1
        try:
            step, values = _event(_data(stream, header))
        except (DamagedError, IndexError, struct.error, UnicodeDecodeError):
            columns.skip(f"event {number}")
            return
        for tag, value in values:
            if columns.keeps(tag):
                columns.add(step, {tag: value, "step": step})


def _data(stream: BinaryIO, header: bytes) -> bytes:
    """Return the data of a record; what is cut off raises an error."""
    length: int = _HEADER.unpack(header)[0]
    data = stream.read(length + 4) if length <= RECORD else b""
    if len(data) != length + 4:
        raise DamagedError
    return data[:-4]


def _event(data: bytes) -> tuple[int, list[tuple[str, float]]]:
    """Return the step of an event and its scalars."""
    step, found = 0, []
    for field, wire, value in _fields(data):
        if field == 2 and wire == VARINT:
            step = value - (1 << 64) if value >> 63 else value
        elif field == 5 and wire == BYTES:
            found += [
                _scalar(part)
                for number, kind, part in _fields(value)
                if (number, kind) == (1, BYTES)
            ]
    return step, [(tag, value) for tag, value in found if value is not None]


def _scalar(data: bytes) -> tuple[str, float | None]:
    """Return the tag and the number of a value; None if it is something else."""
    tag, number = "", None
    for field, wire, value in _fields(data):
        if field == 1 and wire == BYTES:
            tag = value.decode()
        elif field == 2 and wire == FIXED32:
            number = struct.unpack("<f", value)[0]
        elif field == 8 and wire == BYTES:
            number = _one(value)
    return tag, number


def _one(data: bytes) -> float | None:
    """Return the one number of a tensor; None if it has more, or none that is a number."""
    dtype, packed = 0, b""
    code = ""
    for field, wire, value in _fields(data):
        if field == 1 and wire == VARINT:
            dtype = value
        elif field == 4 and wire == BYTES and value:
            packed = value
        elif field in (5, 6) and wire in (BYTES, FIXED32, FIXED64) and value:
            packed, code = value, "<f" if field == 5 else "<d"
    code = code or _CONTENT.get(dtype, "")
    if not code or len(packed) != struct.calcsize(code):
        return None
    return float(struct.unpack(code, packed)[0])


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield number, wire type and value of every field of a message."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, wire, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise DamagedError
        if at + size > end:
            raise DamagedError
        yield key >> 3, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where the next byte is."""
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    number, shift = byte & 127, 7
    while True:
        at += 1
        byte = data[at]
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at + 1
        shift += 7
        if shift > 63:
            raise DamagedError


def _masked_crc(data: bytes) -> int:
    """Return the checksum of a record: CRC-32C (Castagnoli), rotated and shifted."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
