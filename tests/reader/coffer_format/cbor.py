"""CBOR in the profile of section 1.1, and maps checked against tables like those of the specification."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace as Map  # what a CBOR map holds, by the names in its table
from typing import Any

import cbor2

from coffer_format.conventions import FormatError, ascending, need
from coffer_format.limits import MAP_KEYS_MAX, NESTING_MAX, RECORD_LEN_MAX, TEXT_LEN_MAX


def cbor_decode(data: bytes) -> Any:
    """The value that `data` encodes (1.1). There is one encoding of it, so `data` must be what encoding yields."""
    try:
        value = cbor2.loads(data)
    except cbor2.CBORError as fault:
        raise FormatError(f"CBOR: {fault}") from None
    need(in_profile(value) and cbor2.dumps(value, canonical=True) == data, "CBOR outside the profile")
    return value


def in_profile(value: Any, depth: int = 0) -> bool:
    """Whether a value inside `depth` arrays and maps has the types and limits of 1.1."""
    match value:
        case bool() | bytes():
            return True
        case int():
            return -(2**63) <= value < 2**64
        case str():
            return len(value.encode()) <= TEXT_LEN_MAX
        case list():
            return depth < NESTING_MAX and all(in_profile(item, depth + 1) for item in value)
        case dict() if depth < NESTING_MAX and len(value) <= MAP_KEYS_MAX and all(map(UINT, value)):
            return all(in_profile(item, depth + 1) for item in value.values())
    return False


# ---- Tables of map keys, written down as those of the specification are

Test = Callable[[Any], bool]  # Python's bool is an int, so types are compared exactly
Table = dict[int, tuple[Any, ...]]  # name, test; if the key is optional, what absence means, and True if empty is fine


def integer(low: int, high: int) -> Test:
    """An integer within both bounds."""
    return lambda v: type(v) is int and low <= v <= high


def octets(low: int, high: int) -> Test:
    """A byte string of `low` to `high` bytes."""
    return lambda v: type(v) is bytes and low <= len(v) <= high


def text(limit: int) -> Test:
    """A text string of at most `limit` bytes."""
    return lambda v: type(v) is str and len(v.encode()) <= limit


def row(*tests: Test) -> Test:
    """An array with one element for each test."""
    return lambda v: type(v) is list and len(v) == len(tests) and all(test(item) for test, item in zip(tests, v))


def each(test: Test, limit: int = RECORD_LEN_MAX) -> Test:
    """An array of at most `limit` elements, all of which pass the test."""
    return lambda v: type(v) is list and len(v) <= limit and all(map(test, v))


def in_order(test: Test, limit: int = RECORD_LEN_MAX) -> Test:
    """The same, and the elements ascend, none twice."""
    return lambda v: each(test, limit)(v) and ascending(v)


UINT, UINT32, INT = integer(0, 2**64 - 1), integer(0, 2**32 - 1), integer(-(2**63), 2**63 - 1)
BYTES, TEXT, ID, DOMAIN = octets(0, 2**32), text(TEXT_LEN_MAX), octets(32, 32), octets(16, 16)
BOOL: Test = lambda v: type(v) is bool
MAP: Test = lambda v: type(v) is dict


def fields(value: Any, table: Table, what: str) -> Map:
    """A map checked against its table; what absence means stands in the place of an absent key (1.1)."""
    need(MAP(value), f"{what} is not a map")
    found = Map()
    for key, (name, test, *optional) in table.items():
        held = value.get(key, optional[0] if optional else None)
        if key in value or not optional:
            need(key in value and test(held), f"{what}: {name} (key {key}) is missing or malformed")
            fine = len(optional) != 1 or held not in (optional[0], b"", "", [], {})
            need(fine, f"{what}: {name} (key {key}) must rather be absent")
        setattr(found, name, held)
    return found
