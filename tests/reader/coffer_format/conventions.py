"""Hashes (section 1), objects in a vault directory (2), and how this reader says that it refuses something."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from blake3 import blake3


class FormatError(Exception):
    """Bytes that break a rule of the format, or do not authenticate."""


class Refused(Exception):
    """What was asked for cannot be done: a bad argument, a missing key, an unknown version or snapshot."""


def need(condition: bool, what: str) -> None:
    """Raise `FormatError` with the rule that is broken unless `condition` holds."""
    if not condition:
        raise FormatError(what)


def ascending(items: list[Any]) -> bool:
    """Whether each item is below the next one, so that none stands twice."""
    return all(a < b for a, b in zip(items, items[1:]))


def H(data: bytes) -> bytes:
    """The hash of section 1."""
    return blake3(data).digest()


def KH(key: bytes, data: bytes) -> bytes:
    """The keyed hash of section 1."""
    return blake3(data, key=key).digest()


def read_at(path: Path, offset: int, length: int) -> bytes:
    """At most `length` bytes of an object that exists (2)."""
    with open(path, "rb") as file:
        return os.pread(file.fileno(), length, offset)


def load(path: Path, limit: int, digest: bytes | None = None) -> bytes:
    """A whole object within its limit, and with the hash that is known of it (2)."""
    need(path.is_file() and path.stat().st_size <= limit, f"{path} is missing or too long")
    data = read_at(path, 0, limit)
    need(digest in (None, H(data)), f"{path} is damaged")
    return data
