#!/usr/bin/env python3
"""A second reader of coffer vaults, written from docs/format.md alone; section numbers below are its.

It shares no code with the main implementation and never writes to a vault. Not restored: owners and attributes.

    coffer_reader.py VAULT (--key-file F | --passphrase-file F) [--vault-id HEX] VERB

VERB is `list`, `ls SNAPSHOT` or `restore SNAPSHOT TARGET_DIR`. SNAPSHOT is an id, a prefix that only one id has, or
`latest`. Exit status: 0 sound, 1 something was damaged, 2 refused.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace as Map  # what a CBOR map holds, by the names in its table
from typing import Any, NamedTuple

import cbor2
import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from kyber_py.ml_kem import ML_KEM_768

# Limits, section 16.
HEADER_LEN_MAX, SLOT_LEN_MAX, SLOT_COUNT_MAX = 8_192, 16_384, 64
RECORD_LEN_MAX, RECORD_PART_LEN_MAX, LOG_NUMBER_MAX = 8_388_608, 4_194_304, 999_999_999_999
GAP_MAX, WRITER_GAP_MAX, BEYOND_MAX = 1_000_000, 64, 4_096
PACK_LEN_MIN, PACK_LEN_MAX = 65_536, 134_217_728
INDEX_LEN_MAX, INDEX_PACKS_MAX, INDEX_ROWS_MAX = 268_435_456, 65_536, 4_194_304
FRAME_PLAIN_MAX, CHUNK_LEN_MAX, TREE_LEN_MAX, TREE_HEIGHT_MAX = 16_777_216, 16_777_216, 1_048_576, 16
PATH_LEN_MAX, COMPONENT_LEN_MAX, INLINE_LEN_MAX, BLOB_INLINE_MAX = 65_535, 4_096, 128, 4_096
LINK_TARGET_MAX, OWNER_NAME_MAX, TEXT_LEN_MAX, KEY_FILE_LEN_MAX = 65_535, 1_024, 65_536, 4_096
ENTRY_ROWS_MAX, CHUNK_ROWS_MAX, CONTENT_LEVEL_MAX = 64, 8_192, 4
NESTING_MAX, MAP_KEYS_MAX, LIST_MAX, ERRORS_MAX = 16, 23, 65_536, 1_000
MINOR_KNOWN, PAGE_LEN, TAG_LEN, SEAL_HEAD_LEN, FOOTER_LEN = 0, 16_384, 16, 32 + 1120 + 32, 48

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

# ---- CBOR, section 1.1
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

# ---- Keys and seals, sections 1, 4, 5
def H(data: bytes) -> bytes:
    """The hash of section 1."""
    return blake3(data).digest()
def KH(key: bytes, data: bytes) -> bytes:
    """The keyed hash of section 1."""
    return blake3(data, key=key).digest()
def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand of RFC 5869 with SHA-256 (section 4)."""
    return HKDFExpand(SHA256(), length, info).derive(prk)
def kdf(secret: bytes, label: str, context: bytes = b"", length: int = 32) -> bytes:
    """`KDF` of section 4, and `KDF64` with a length of 64."""
    return hkdf_expand(secret, b"coffer/1 " + label.encode() + b"\0" + context, length)

PACK, INDEX, RECORD, EPOCH = 1, 2, 3, 5  # object kinds, 5.1
P_FRAME, P_DIRECTORY, P_FOOTER, P_FRAME_PAGE, P_CHUNK_PAGE, P_BODY, P_WRAP, P_PREV_VK, P_PREV_RS = range(1, 10)

def gcm_open(key: bytes, purpose: int, ordinal: int, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext of a seal (5.1)."""
    try:
        return AESGCM(key).decrypt(struct.pack("<B7xI", purpose, ordinal), sealed, aad)
    except (InvalidTag, ValueError):
        raise FormatError(f"sealed part of purpose {purpose}, ordinal {ordinal} does not open") from None

class Seal(NamedTuple):
    """A key with what all seals of one object have in common (5.1)."""
    key: bytes
    vault_id: bytes
    kind: int
    salt: bytes

    def open(self, purpose: int, ordinal: int, sealed: bytes, extra: bytes = b"") -> bytes:
        """The plaintext of one part of the object (5.1)."""
        aad = struct.pack("<8s32sBBxxI32s", b"coffer/1", self.vault_id, self.kind, purpose, ordinal, self.salt)
        return gcm_open(self.key, purpose, ordinal, sealed, aad + extra)

class XWing:
    """An X-Wing secret key from its 32-byte seed (5.2, draft-connolly-cfrg-xwing-kem)."""
    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(96)
        ek, self._dk = ML_KEM_768.key_derive(expanded[:64])
        self._x = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        self._pk_x = self._x.public_key().public_bytes_raw()
        self.public: bytes = ek + self._pk_x

    def decapsulate(self, enc: bytes) -> bytes:
        """The shared secret; an all-zero result of X25519 is not refused (5.2)."""
        ss_m = ML_KEM_768.decaps(self._dk, enc[:1088])
        try:
            ss_x = self._x.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:]))
        except ValueError:  # what the library says of an all-zero result
            ss_x = bytes(32)
        return hashlib.sha3_256(ss_m + ss_x + enc[1088:] + self._pk_x + b"\\.//^\\").digest()

HPKE_LABEL = b"HPKE-v1HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0xFFFF)

def hpke_keys(shared: bytes, psk: bytes, psk_id: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and commitment of 5.2: the key schedule of RFC 9180 in mode psk and its two exports."""
    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt, HPKE_LABEL + label + ikm, "sha256")
    def expand(prk: bytes, label: bytes, context: bytes) -> bytes:
        return hkdf_expand(prk, b"\0\x20" + HPKE_LABEL + label + context, 32)

    context = b"\x01" + extract(b"", b"psk_id_hash", psk_id) + extract(b"", b"info_hash", info)
    exporter = expand(extract(shared, b"secret", psk), b"exp", context)
    return expand(exporter, b"sec", b"coffer/1 key"), expand(exporter, b"sec", b"coffer/1 commitment")

ED_P, ED_L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ED_Y8 = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
ED_LOW_ORDER_Y = {0, 1, ED_P - 1, ED_Y8, ED_P - ED_Y8}  # of the points of order 4, 1, 2 and 8

def ed25519_valid(public: bytes, message: bytes, signature: bytes) -> bool:
    """Strict verification (8.1); the library's equation is the one without the cofactor and compares R as bytes."""
    ys = [int.from_bytes(point, "little") % 2**255 for point in (public, signature[:32])]
    if any(y >= ED_P or y in ED_LOW_ORDER_Y for y in ys) or int.from_bytes(signature[32:], "little") >= ED_L:
        return False
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True

# ---- Objects, header, key file, key slots, sections 2, 6, 7
def read_at(path: Path, offset: int, length: int) -> bytes:
    """At most `length` bytes of an object that exists."""
    with open(path, "rb") as file:
        return os.pread(file.fileno(), length, offset)

def load(path: Path, limit: int, digest: bytes | None = None) -> bytes:
    """A whole object within its limit, and with the hash that is known of it."""
    need(path.is_file() and path.stat().st_size <= limit, f"{path} is missing or too long")
    data = read_at(path, 0, limit)
    need(digest in (None, H(data)), f"{path} is damaged")
    return data

HEADER: Table = {
    1: ("major", UINT), 2: ("minor", UINT), 3: ("suite", UINT), 4: ("chunker", row(UINT32, UINT32, UINT32, UINT32)),
    5: ("store_mode", integer(1, 3)), 6: ("sealing_key", octets(1216, 1216)), 7: ("owner_key", ID), 8: ("random", ID),
}

def parse_header(data: bytes) -> Map:
    """The header in the bytes of `vault` (section 6)."""
    need(len(data) <= HEADER_LEN_MAX and data[:16] == b"coffer vault\n\0\0\1", "not a header of this format")
    header = fields(cbor_decode(data[16:]), HEADER, "header")
    if header.major != 1 or header.minor > MINOR_KNOWN or header.suite != 1:
        raise Refused("the vault has a version or suite that this reader does not know")
    kind, low, bits, high = header.chunker
    pcc = kind == 1 and 64 <= low and low + 256 <= high <= CHUNK_LEN_MAX and 6 <= bits <= 30
    need(pcc or (kind == 2 and 64 <= low == high <= CHUNK_LEN_MAX and bits == 0), "header: bad chunker")
    header.vault_id = H(data)
    return header

def find_header(root: Path, vault_id: bytes | None) -> Map:
    """The header, or where it is lost or another one its copy in record 0 (section 14)."""
    try:
        return parse_header(load(root / "vault", HEADER_LEN_MAX, vault_id))
    except FormatError as fault:
        record = parse_record(load(root / "log/000000000000", RECORD_LEN_MAX))
        header = parse_header(fields(record.details, RECORD_0, "details").header)
        ours = header.vault_id == record.vault_id and vault_id in (None, header.vault_id)
        need(ours and record.signer == header.owner_key and signature_valid(record), f"no header: {fault}")
        return header

def parse_key_file(data: bytes) -> bytes:
    """The secret in a key file (7.1)."""
    need(len(data) <= KEY_FILE_LEN_MAX, "key file is too long")
    lines = (line.strip(b" \t\r\f") for line in data.split(b"\n"))
    found = re.fullmatch(rb"COFFER-KEY-1-([0-9a-f]{72})", b"\n".join(line for line in lines if line[:1] not in b"#"))
    need(found is not None, "key file does not hold exactly one key")
    raw = bytes.fromhex(found[1].decode())
    need(H(b"coffer/1 key file" + raw[:32])[:4] == raw[32:], "key file: wrong check digits")
    return raw[:32]

SLOT: Table = {
    1: ("vault_id", ID), 2: ("epoch", UINT32), 3: ("purpose", integer(1, 2)), 4: ("kind", integer(1, 7)),
    5: ("label", text(256)), 6: ("created", INT), 7: ("parameters", MAP), 8: ("salt", ID, None),
    9: ("commitment", ID, None), 10: ("wrapped", octets(0, 4096)),
}
SERVICE: Table = {
    1: ("endpoint", text(1024)), 2: ("instance", text(1024)), 3: ("key", text(1024)), 4: ("crn", text(1024), None),
    5: ("version", text(1024), None), 6: ("region", text(1024), None), 7: ("ring", text(1024), None),
}
PARAMETERS: dict[int, Table] = {
    1: {1: ("memory", UINT32), 2: ("passes", UINT32), 3: ("lanes", UINT32), 4: ("salt", octets(16, 16))},
    2: {1: ("key_id", octets(8, 8))}, 3: SERVICE, 4: SERVICE, 7: SERVICE,
    5: {1: ("token", text(1024)), 2: ("serial", text(1024)), 3: ("label", text(1024)), 4: ("id", octets(0, 1024)),
        5: ("mechanism", UINT), 6: ("iv", octets(1, 16), None), 7: ("mac", octets(32, 32), None)},
    6: {1: ("set_id", octets(8, 8)), 2: ("threshold", UINT), 3: ("count", UINT), 4: ("digests", octets(0, 1024))},
}

def parse_slot(data: bytes) -> Map:
    """The slot in an object of `slots/`, of any kind, with its context (section 7)."""
    need(len(data) <= SLOT_LEN_MAX, "slot is too long")
    found = cbor_decode(data)
    slot = fields(found, SLOT, "slot")
    bound = {key: found[key] for key in found if key not in (9, 10)}
    if slot.kind == 5:  # The MAC of a token cannot cover itself, nor does it have to cover the IV twice.
        bound[7] = {key: bound[7][key] for key in bound[7] if key not in (6, 7)}
    slot.context = cbor2.dumps(bound, canonical=True)
    for value in (slot.salt, slot.commitment):
        need((value is not None) == (slot.kind in (1, 2, 6)), "slot: salt and commitment are of kinds 1, 2 and 6 alone")
    p = slot.parameters = fields(slot.parameters, PARAMETERS.get(slot.kind, {}), "slot parameters")
    need(slot.kind != 6 or 2 <= p.threshold <= p.count and len(p.digests) == 16 * p.count, "slot: bad shares")
    return slot

def slot_secret(slot: Map, key_file: bytes | None, passphrase: bytes | None) -> bytes | None:
    """The secret `s` from what the user gave, or None if this slot is not for it (section 7)."""
    p = slot.parameters
    if slot.kind == 1 and passphrase is not None:
        good = 65_536 <= p.memory <= 4_194_304 and 3 <= p.passes <= 16 and 1 <= p.lanes <= 16
        need(good, "slot: Argon2id parameters are outside the limits")
        return hash_secret_raw(passphrase, p.salt, p.passes, p.memory, p.lanes, 32, Type.ID, 0x13)
    fits = slot.kind == 2 and key_file is not None and p.key_id == kdf(key_file, "key file id")[:8]
    return key_file if fits else None

def unwrap(slot: Map, secret: bytes) -> bytes:
    """The key in a slot of kind 1, 2 or 6 (section 7)."""
    keys = kdf(secret, "slot", slot.salt + slot.vault_id, 64)
    need(hmac.compare_digest(keys[32:], slot.commitment), "slot: not its secret")
    plain = gcm_open(keys[:32], P_WRAP, 0, slot.wrapped, slot.context)
    need(len(plain) == 64 and hmac.compare_digest(plain[32:], H(slot.context)), "slot: the key is of another one")
    return plain[:32]

# ---- The log, sections 8 and 9
OWNER, MAINTAINER, PUT = 1, 2, 3  # roles
SNAPSHOT, PROGRESS, SLOTS, PROMOTE = 1, 2, 9, 15  # kinds
NAMES, ORPHANS, ZERO_HOME = in_order(ID), in_order(row(integer(PACK, INDEX), ID)), bytes(16)

# Who signs it; keys 10, 11, 12 and the body: "-" not allowed, "?" allowed, "!" demanded; details, None for no key 16.
Kind = NamedTuple("Kind", [("roles", tuple[int, ...]), ("parts", str), ("details", Table | None)])
OF_SNAPSHOTS: Table = {1: ("snapshots", NAMES)}
KINDS: dict[int, Kind] = {
    1: Kind((OWNER, PUT), "?--!", None),  # snapshot
    2: Kind((OWNER, PUT), "!--!", None),  # progress
    3: Kind((OWNER, MAINTAINER), "---!", OF_SNAPSHOTS),  # forget
    4: Kind((OWNER, MAINTAINER), "?--!", OF_SNAPSHOTS),  # unforget
    5: Kind((OWNER, MAINTAINER), "---!", OF_SNAPSHOTS | {2: ("held", BOOL)}),  # hold
    6: Kind((OWNER, MAINTAINER), "---!", OF_SNAPSHOTS),  # tag
    7: Kind((OWNER, MAINTAINER), "??-!", {1: ("base", UINT), 2: ("orphans", ORPHANS)}),  # prune
    8: Kind((OWNER, MAINTAINER), "----", {1: ("base", UINT), 2: ("segments", NAMES), 3: ("packs", NAMES)}),  # sweep
    9: Kind((OWNER,), "--!?", None),  # slots
    10: Kind((OWNER,), "--!?", {1: ("number", UINT32), 2: ("sealing_key", octets(1216, 1216)), 3: ("owner_key", ID),
                                4: ("previous_vault_key", octets(48, 48)), 6: ("new_domains", BOOL),
                                5: ("previous_reader_secret", octets(48, 48))}),  # epoch
    11: Kind((OWNER,), "---!", {1: ("action", integer(1, 2)), 2: ("key", ID), 3: ("role", integer(2, 4), None),
                                4: ("domains", in_order(DOMAIN, LIST_MAX), None, True)}),  # role
    12: Kind((OWNER,), "---!", {1: ("minor", UINT, None)}),  # policy
    13: Kind((OWNER, MAINTAINER), "---!", {1: ("hash", ID), 2: ("approved", BOOL)}),  # approval
    14: Kind((OWNER,), "---!", {1: ("home", DOMAIN)}),  # handover
    15: Kind((OWNER,), "---!", {1: ("home", DOMAIN), 2: ("last", UINT), 3: ("chain", ID)}),  # promote
    16: Kind((OWNER,), "---?", {1: ("records", each(BYTES))}),  # reconcile
    17: Kind((OWNER, MAINTAINER), "----", {1: ("until_s", INT), 2: ("objects", UINT)}),  # locks
    18: Kind((OWNER, MAINTAINER, PUT), "---!", {1: ("hash", ID)}),  # evidence
    19: Kind((OWNER, MAINTAINER), "?--!", {1: ("number", UINT), 2: ("state_hash", ID)}),  # checkpoint
}
RECORD_0: Table = {1: ("header", octets(0, HEADER_LEN_MAX))}  # details of slots in record 0

def kind_of(kind: int, number: int) -> Kind | None:
    """What section 9 says of a kind in record `number`; None for a kind that is not in it."""
    return Kind((OWNER,), "--!?", RECORD_0) if (kind, number) == (SLOTS, 0) else KINDS.get(kind)

def parse_details(kind: int, number: int, value: Any) -> Map:
    """Details by the rules of section 9 that need no state."""
    rules = kind_of(kind, number)
    need(rules is not None and (rules.details is None) == (value is None), "details in a kind without, or none")
    details = fields(value or {}, (rules and rules.details) or {}, "details")
    fine = kind != 11 or (details.action == 1) == (details.role is not None) == (details.domains is not None)
    need(fine, "role and domains are of enrolment alone")
    return details

RECORD_TABLE: Table = {
    1: ("vault_id", ID), 2: ("number", integer(0, LOG_NUMBER_MAX)), 3: ("term", UINT), 4: ("previous", ID),
    5: ("signer", ID), 6: ("kind", UINT), 7: ("minor", UINT), 8: ("time", INT), 9: ("body_hash", ID, None),
    10: ("added", each(row(ID, integer(0, INDEX_LEN_MAX), DOMAIN)), []), 11: ("removed", NAMES, []),
    12: ("slots", in_order(ID, SLOT_COUNT_MAX), None), 13: ("domain", DOMAIN, None), 14: ("epoch", UINT32, None),
    15: ("home", DOMAIN, ZERO_HOME), 16: ("details", MAP, None, True),
}

def parse_record(data: bytes) -> Map:
    """The record in a log object, by rule 1 of 8.2 (8.1)."""
    need(80 <= len(data) <= RECORD_LEN_MAX, "record: length outside the limits")
    magic, public_len, body_len = struct.unpack_from("<8sII", data)
    need(magic == b"cofflog1" and max(public_len, body_len) <= RECORD_PART_LEN_MAX, "record: wrong magic, or too long")
    need(len(data) == 80 + public_len + body_len, "record: lengths do not add up")
    record = fields(cbor_decode(data[16 : 16 + public_len]), RECORD_TABLE, "record")
    record.public, record.body = data[16 : 16 + public_len], data[16 + public_len : -64]
    record.signature, record.chain = data[-64:], H(data)
    need(ascending([name for name, _, _ in record.added]), "record: segments are not ascending")
    for value in (record.body_hash, record.domain, record.epoch):
        need((value is not None) == (body_len > 0), "record: keys 9, 13 and 14 do not fit the body")
    return record

def signature_valid(record: Map) -> bool:
    """Whether the signer signed the public part of a record (8.1)."""
    return ed25519_valid(record.signer, b"coffer/1 log record\0" + record.public, record.signature)

Segment = NamedTuple("Segment", [("length", int), ("domain", bytes), ("number", int)])  # number of the record with it
Snapshot = NamedTuple("Snapshot", [("number", int), ("record", Map)])  # number of the record that made it effective
Role = NamedTuple("Role", [("role", int), ("domains", set[bytes])])
Outcome = NamedTuple("Outcome", [("chain", bytes | None), ("reason", str | None)])  # chain value; why a record is void
Claim = NamedTuple("Claim", [("signer", bytes), ("what", str)])  # of damage: who says so, and what
# A record that is void for one of these may once have had other bytes (8.2, rule 7).
UNPROVEN = ("missing", "malformed", "foreign", "body", "version", "signer", "signature")

class Log:
    """The state of a vault by replay of its log (8.2)."""
    def __init__(self, root: Path, header: Map) -> None:
        self.vault_id, self.minor, self.term, self.home = header.vault_id, header.minor, 0, ZERO_HOME
        self.epochs = [header]  # then details of epoch records
        self.roles = {header.owner_key: Role(OWNER, set())}  # of all keys that are or were enrolled
        self.slots, self.outcomes, self.damage = list[bytes](), list[Outcome](), dict[int, Claim]()  # that counts
        self.live, self.removed = dict[bytes, Segment](), dict[bytes, Segment]()  # removed and not swept
        self.condemned: set[tuple[int, bytes]] = set()  # and not swept
        self.snapshots: dict[bytes, Snapshot] = {}
        self.forgotten, self.held, self.revoked = set[bytes](), set[bytes](), set[bytes]()  # snapshots, and keys
        self.swept_segments, self.swept_packs = set[bytes](), set[bytes]()
        self.last_prune, self.last_policy = 0, None
        listed = sorted(int(path.name) for path in root.glob("log/*") if re.fullmatch("[0-9]{12}", path.name))
        for number in range(LOG_NUMBER_MAX + 1):
            path = root / f"log/{number:012d}"
            if path.is_file():
                self.outcomes.append(self._take(number, read_at(path, 0, RECORD_LEN_MAX), path.stat().st_size))
            elif claimant := self._claimant(root, number, [later for later in listed if later > number]):
                self.damage[number] = Claim(claimant, "is missing")
                self.outcomes.append(Outcome(None, "missing"))
            else:
                break
            if self.minor > MINOR_KNOWN:  # what follows may mean something else (section 3)
                break

    def _claimant(self, root: Path, absent: int, behind: list[int]) -> bytes | None:
        """Who signed the first record behind `absent` that shows that it was there once (8.2)."""
        for number in behind[:BEYOND_MAX]:
            try:
                record = parse_record(load(root / f"log/{number:012d}", RECORD_LEN_MAX))
            except FormatError:
                continue
            if record.vault_id == self.vault_id and record.number == number and self._judge_signer(record) is None:
                if number - absent <= (GAP_MAX if self._is_trusted(record.signer) else WRITER_GAP_MAX):
                    return record.signer
        return None

    def _is_trusted(self, signer: bytes) -> bool:
        """Whether claims of `signer` count for good (8.2)."""
        return self.roles[signer].role in (OWNER, MAINTAINER)

    def _take(self, number: int, data: bytes, length: int) -> Outcome:
        """Replay one object of `length` bytes, of which `data` are all or the first `RECORD_LEN_MAX` (8.1, 8.2)."""
        if length > RECORD_LEN_MAX:
            return Outcome(H(data + struct.pack("<Q", length)), "malformed")
        try:
            record = parse_record(data)
        except FormatError:
            return Outcome(H(data), "malformed")
        return Outcome(record.chain, self._judge(number, record))

    def _judge(self, number: int, record: Map) -> str | None:
        """Why `record` is void as record `number`; if it is not, None, and it has taken effect (8.2)."""
        if record.vault_id != self.vault_id or record.number != number:
            return "foreign"
        if reason := self._judge_origin(record):
            return reason
        before = self.outcomes[-1] if number else Outcome(bytes(32), None)
        if record.previous != before.chain:
            if before.reason not in UNPROVEN:
                return "chain"
            self.damage.setdefault(number - 1, Claim(record.signer, f"had other bytes when record {number} was signed"))
        if record.home != self.home:
            return "home"
        if record.term != self.term + (record.kind == PROMOTE):
            return "term"
        if reason := self._judge_rights(number, record):
            return reason
        try:
            need(number > 0 or record.kind == SLOTS, "record 0 is not of kind slots")
            self._apply_kind(number, record, parse_details(record.kind, number, record.details))
        except FormatError:
            return "details"
        for name in record.removed:
            self.removed[name] = self.live.pop(name)
        self._add(number, record)
        self.slots = self.slots if record.slots is None else record.slots
        return None

    def _judge_origin(self, record: Map) -> str | None:
        """Rules 3 to 6 of 8.2."""
        if record.body_hash is not None and record.body_hash != H(record.body):
            return "body"
        return "version" if record.minor > self.minor else self._judge_signer(record)

    def _judge_signer(self, record: Map) -> str | None:
        """Rules 5 and 6 of 8.2."""
        if record.signer not in self.roles or record.signer in self.revoked:
            return "signer"
        return None if signature_valid(record) else "signature"

    def _judge_rights(self, number: int, record: Map) -> str | None:
        """Rules 9 to 12 of 8.2."""
        kind, signer = kind_of(record.kind, number), self.roles[record.signer]
        if kind is None:
            return "kind"
        parts = (record.added, record.removed, record.slots, record.body, record.details is not None)
        rules = zip(kind.parts + ("-" if kind.details is None else "!"), parts)
        if signer.role not in kind.roles or any(rule == ("-" if part else "!") for rule, part in rules):
            return "role"
        domains = {domain for _, _, domain in record.added} | {record.domain} - {None}
        if signer.role == PUT and not domains <= signer.domains:
            return "domain"
        known = self.live.keys() | self.removed.keys() | self.swept_segments
        fresh = not any(name in known for name, _, _ in record.added)
        return None if fresh and self.live.keys() >= set(record.removed) else "segment"

    def _add(self, number: int, record: Map) -> None:
        """Make segments of `record`, and the snapshot that it is, effective with `number` (8.2)."""
        self.live.update((name, Segment(length, domain, number)) for name, length, domain in record.added)
        if record.kind == SNAPSHOT:
            self.snapshots[record.chain] = Snapshot(number, record)

    def _apply_kind(self, number: int, record: Map, d: Map) -> None:
        """The rules for each kind that need the state, 13 of 8.2, and behind them its effect (section 9)."""
        ids = set(getattr(d, "snapshots", []))
        need(ids <= self.snapshots.keys(), "not an effective snapshot")
        match record.kind:
            case 3:  # forget
                need(not ids & self.held, "forget of a held snapshot")
                self.forgotten |= ids
            case 4:  # unforget
                self.forgotten -= ids
            case 5:  # hold
                self.held = self.held | ids if d.held else self.held - ids
            case 7:  # prune
                need(self.last_prune <= d.base < number, "base is outside its bounds")
                self.last_prune = number
                self.condemned.update(map(tuple, d.orphans))
            case 8:  # sweep
                need(self.last_prune <= d.base < number, "base is outside its bounds")
                need(self.live.keys().isdisjoint(d.segments), "sweep of a live segment")
                self.last_prune = number
                self.swept_segments.update(d.segments)
                self.swept_packs.update(d.packs)
                self.condemned -= {(INDEX, name) for name in d.segments} | {(PACK, name) for name in d.packs}
                self.removed = {name: s for name, s in self.removed.items() if name not in self.swept_segments}
            case 9:  # slots
                need(number > 0 or H(d.header) == self.vault_id, "record 0 does not carry the header")
            case 10:  # epoch
                need(d.number == len(self.epochs) and d.owner_key not in self.roles, "epoch out of order, or old key")
                self.revoked.add(self.epochs[-1].owner_key)
                self.roles[d.owner_key] = Role(OWNER, set())
                self.epochs.append(d)
            case 11 if d.action == 1:  # enrolment
                need(d.key not in self.roles, "the key is or was enrolled")
                self.roles[d.key] = Role(d.role, set(d.domains))
            case 11:  # revocation
                need(d.key in self.roles and d.key not in self.revoked, "no such key to revoke")
                need(self.roles[d.key].role != OWNER, "revocation of the owner")
                self.revoked.add(d.key)
                if not self._is_trusted(d.key):
                    self.damage = {n: claim for n, claim in self.damage.items() if claim.signer != d.key}
            case 12:  # policy
                need(d.minor is None or d.minor >= self.minor, "policy lowers the minor version")
                self.minor, self.last_policy = self.minor if d.minor is None else d.minor, number
            case 14:  # handover
                need(d.home not in (self.home, ZERO_HOME), "handover to no other home")
                self.home = d.home
            case 15:  # promote
                need(d.home != ZERO_HOME and d.last == number - 1 and d.chain == record.previous, "wrong place")
                self.home, self.term = d.home, record.term
            case 16:  # reconcile
                self._reconcile(number, [parse_record(data) for data in d.records])
            case 19:  # checkpoint
                need(d.number == number - 1, "checkpoint of another state than the one before it")

    def _reconcile(self, number: int, quoted: list[Map]) -> None:
        """Kind 16: each quoted record must be one that could take effect here, but for its place in a log."""
        for record in quoted:
            need(record.vault_id == self.vault_id and record.kind in (SNAPSHOT, PROGRESS), "unfit quoted record")
            fault = self._judge_origin(record) or self._judge_rights(number, record)
            need(fault is None and record.chain not in self.snapshots, f"quoted record: {fault or 'effective'}")
        for list_ in ([record.chain for record in quoted], [row[0] for record in quoted for row in record.added]):
            need(len(set(list_)) == len(list_), "a record quoted twice, or a segment added by two")
        for record in quoted:
            self._add(number, record)

# ---- Packs and index segments, sections 10 and 11
DATA, META = 1, 2
# Where a chunk is: a frame of a pack, and a range of the frame's plain bytes.
Place = NamedTuple("Place", [("pack", bytes), ("frame", int), ("frame_offset", int), ("sealed_len", int),
                             ("plain_len", int), ("offset", int), ("length", int)])

def parse_frame(data: bytes) -> tuple[int, int, int, bytes]:
    """Codec, kind, plain length and payload of a frame's plaintext (section 10)."""
    need(len(data) >= 8, "frame is too short")
    codec, kind, zero, plain_len = struct.unpack_from("<BBHI", data)
    need(codec in (0, 1) and kind in (DATA, META) and zero == 0, "frame: unknown codec or kind")
    need(1 <= plain_len <= FRAME_PLAIN_MAX and (codec == 1 or plain_len == len(data) - 8), "frame: wrong plain length")
    return codec, kind, plain_len, data[8:]

def decompress(payload: bytes, plain_len: int) -> bytes:
    """The plain bytes of exactly one Zstandard frame; never more than `plain_len` bytes are made (section 10)."""
    try:
        need(zstandard.frame_content_size(payload) in (plain_len, -1), "frame: wrong plain length")
        plain = zstandard.ZstdDecompressor().decompress(payload, max_output_size=plain_len, allow_extra_data=False)
    except zstandard.ZstdError as fault:
        raise FormatError(f"frame: {fault}") from None
    need(len(plain) == plain_len, "frame: wrong plain length")
    return plain

def parse_index_head(data: bytes, object_len: int) -> Map:
    """The head of an index segment, with offset and plain length of its tables (section 11)."""
    need(len(data) >= 104 and object_len <= INDEX_LEN_MAX, "index segment: length outside the limits")
    magic, domain, salt, commitment, packs, frames, chunks = struct.unpack_from("<8s16s32s32sIIQ", data)
    need(magic == b"coffidx1", "index segment: wrong magic")
    need(packs <= INDEX_PACKS_MAX and max(frames, chunks) <= INDEX_ROWS_MAX, "index segment: beyond a limit")
    tables, at = {}, 104 + 40 * packs
    for purpose, plain_len in ((P_FRAME_PAGE, 4 * packs + 12 * frames), (P_CHUNK_PAGE, 32 * chunks)):
        tables[purpose] = (at, plain_len)
        at += plain_len + -(-plain_len // PAGE_LEN) * TAG_LEN
    need(object_len == at, "index segment: length does not fit its tables")
    return Map(domain=domain, salt=salt, commitment=commitment, packs=packs, frames=frames, tables=tables)

def parse_pack_table(data: bytes, count: int) -> list[tuple[bytes, int]]:
    """Names and stored lengths of packs (section 11)."""
    need(len(data) == 40 * count, "pack table: wrong length")
    packs = list(struct.iter_unpack("<32sQ", data))
    need(len({name for name, _ in packs}) == count, "pack table: pack named twice")
    need(all(PACK_LEN_MIN <= length <= PACK_LEN_MAX for _, length in packs), "pack table: pack of an unfit length")
    return packs

def open_index(data: bytes, vault_id: bytes, index_key: bytes) -> Map:
    """An index segment with its tables opened (section 11)."""
    index = parse_index_head(data, len(data))
    index.pack_table = parse_pack_table(data[104 : 104 + 40 * index.packs], index.packs)
    keys = kdf(index_key, "index segment", vault_id + index.salt, 64)
    need(hmac.compare_digest(keys[32:], index.commitment), "index segment: commitment does not match")
    seal = Seal(keys[:32], vault_id, INDEX, index.salt)

    def table(purpose: int) -> bytes:
        start, plain_len = index.tables[purpose]
        pages = [min(PAGE_LEN, plain_len - at) + TAG_LEN for at in range(0, plain_len, PAGE_LEN)]
        starts = range(start, len(data), PAGE_LEN + TAG_LEN)
        return b"".join(seal.open(purpose, n, data[starts[n] : starts[n] + size]) for n, size in enumerate(pages))

    index.frame_table, index.chunk_table = table(P_FRAME_PAGE), table(P_CHUNK_PAGE)
    return index

def index_places(index: Map) -> Iterator[tuple[bytes, Place]]:
    """First 20 bytes of ids, and places, of all chunks in an index segment (section 11)."""
    firsts = [*struct.unpack_from(f"<{index.packs}I", index.frame_table), index.frames]
    rows = list(struct.iter_unpack("<20sHHII", index.chunk_table))
    need(firsts[0] == 0 and firsts == sorted(firsts), "index segment: bad frame counts")
    need(ascending([chunk_id for chunk_id, *_ in rows]), "index segment: chunks are not ascending")
    for chunk_id, pack, frame, offset, length in rows:
        need(pack < index.packs and firsts[pack] + frame < firsts[pack + 1], "index segment: no such frame")
        row_at = 4 * index.packs + 12 * (firsts[pack] + frame)
        start, sealed_len, plain_len = struct.unpack_from("<III", index.frame_table, row_at)
        name, stored = index.pack_table[pack]
        need(SEAL_HEAD_LEN <= start and start + sealed_len <= stored - FOOTER_LEN, "index segment: frame outside pack")
        yield chunk_id, Place(name, frame, start, sealed_len, plain_len, offset, length)

# ---- Manifests and trees, sections 9.1 and 12
FILE, DIRECTORY, SYMLINK, CHARACTER, BLOCK, RESOURCE = 1, 2, 3, 6, 7, 8
NODE_TYPES = {4: stat.S_IFIFO, 5: stat.S_IFSOCK, CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK}
KIND_NAMES = ("", "file", "dir", "symlink", "fifo", "socket", "char", "block", "resource")

def path_valid(path: Any) -> bool:
    """Whether `path` keeps the rules for paths (12.1)."""
    fine = octets(0, PATH_LEN_MAX)(path) and b"\0" not in path
    parts = path.split(b"/") if fine and path else []
    return fine and all(0 < len(part) <= COMPONENT_LEN_MAX and part not in (b".", b"..") for part in parts)

def path_key(path: bytes) -> bytes:
    """Orders as section 12 does: component by component, the separator below every other byte."""
    return path.replace(b"/", b"\0")

CHUNK_REF, TREE_LEN = row(ID, integer(1, CHUNK_LEN_MAX)), integer(1, TREE_LEN_MAX)
MANIFEST: Table = {
    1: ("collector", TEXT), 2: ("host", TEXT), 3: ("tags", in_order(TEXT, LIST_MAX), []),
    4: ("sources", each(octets(0, PATH_LEN_MAX), LIST_MAX)), 5: ("start_ns", INT), 6: ("end_ns", INT),
    7: ("root", row(ID, TREE_LEN, integer(0, TREE_HEIGHT_MAX))), 8: ("statistics", MAP), 9: ("parent", ID, None),
    10: ("completeness", MAP), 11: ("program", TEXT), 12: ("user", TEXT, None), 13: ("facts", MAP, None),
}
STATISTICS: Table = {key: (f"number_{key}", UINT, 0) for key in range(1, 10)}
COMPLETENESS: Table = {1: ("complete", BOOL), 2: ("errors", each(row(BYTES, TEXT), ERRORS_MAX)), 3: ("count", UINT)}

def parse_manifest(body: bytes) -> Map:
    """The manifest in the body of a snapshot record (9.1)."""
    manifest = fields(cbor_decode(body), MANIFEST, "manifest")
    manifest.statistics = fields(manifest.statistics, STATISTICS, "statistics")
    manifest.completeness = c = fields(manifest.completeness, COMPLETENESS, "completeness")
    need(c.complete == (c.count == 0) and len(c.errors) <= c.count, "manifest: completeness does not fit the errors")
    return manifest

ROWS: Test = lambda v: BYTES(v) and len(parse_rows(v, ENTRY_ROWS_MAX)) > 0
BLOB: Test = lambda v: octets(0, BLOB_INLINE_MAX)(v) or CHUNK_REF(v)
OWNER_NAME = octets(0, OWNER_NAME_MAX)
ENTRY: Table = {
    1: ("path", path_valid), 2: ("kind", integer(1, 8)), 3: ("mode", integer(0, 0o7777)), 4: ("uid", UINT32),
    5: ("gid", UINT32), 6: ("user", OWNER_NAME, None), 7: ("group", OWNER_NAME, None), 8: ("mtime", INT),
    9: ("size", UINT, 0), 10: ("inline", octets(0, INLINE_LEN_MAX), None),
    11: ("content", row(integer(0, CONTENT_LEVEL_MAX), ROWS), None), 12: ("target", octets(0, LINK_TARGET_MAX), None),
    13: ("link", path_valid, None), 14: ("xattrs", BLOB, None), 15: ("holes", BLOB, None),
    16: ("device", row(UINT32, UINT32), None), 17: ("marks", UINT, 0), 18: ("service", MAP, None),
}

def parse_entry(value: Any) -> Map:
    """A tree entry by the rules that concern it alone (12.1)."""
    e = fields(value, ENTRY, "entry")
    need(e.path != b"" or e.kind == DIRECTORY, "entry: empty path of something not a directory")
    need(e.inline is None or (e.content is None and e.kind == FILE), "entry: content twice, or inline in a resource")
    sized, filled = e.kind in (FILE, RESOURCE), any(v is not None for v in (e.inline, e.content, e.holes))
    need(sized or e.size == 0, "entry: size of something without content")
    need(filled == (sized and e.link is None and e.size > 0), "entry: size, content and holes do not fit each other")
    need(e.inline is None or e.holes is not None or len(e.inline) == e.size, "entry: size is not that of its content")
    need((e.target is not None) == (e.kind == SYMLINK) and b"\0" not in (e.target or b""), "entry: bad link target")
    need((e.device is not None) == (e.kind in (CHARACTER, BLOCK)), "entry: bad device numbers")
    need(e.service is None or e.kind == RESOURCE, "entry: metadata of something not a resource")
    need(e.link is None or (e.kind != DIRECTORY and path_key(e.link) < path_key(e.path)), "entry: bad hard link")
    return e

def parse_leaf(data: bytes) -> list[Map]:
    """The entries in a leaf (section 12)."""
    items = cbor_decode(data)
    need(len(data) <= TREE_LEN_MAX and each(MAP, LIST_MAX)(items), "leaf is too large, or not an array of entries")
    entries = [parse_entry(item) for item in items]
    need(ascending([path_key(entry.path) for entry in entries]), "leaf: paths are not ascending")
    return entries

CHILD = row(path_valid, ID, TREE_LEN, UINT, UINT)

def parse_node(data: bytes) -> list[list[Any]]:
    """The children in a node (section 12)."""
    children = cbor_decode(data)
    need(len(data) <= TREE_LEN_MAX and each(CHILD, LIST_MAX)(children), "node is too large, or has a malformed child")
    need(len(children) > 0 and ascending([path_key(child[0]) for child in children]), "node is empty, or not in order")
    return children

def parse_rows(rows: bytes, limit: int) -> list[tuple[bytes, int]]:
    """Ids and lengths in the rows of a content list (12.3)."""
    need(len(rows) % 36 == 0 and 1 <= len(rows) // 36 <= limit, "content list: no rows, a part of one, or too many")
    found = list(struct.iter_unpack("<32sI", rows))
    need(all(1 <= length <= CHUNK_LEN_MAX for _, length in found), "content list: bad length of a chunk")
    return found

def parse_holes(raw: bytes, size: int) -> list[tuple[int, int]]:
    """Offsets and lengths of the holes of a file (12.1)."""
    need(len(raw) > 0 and len(raw) % 16 == 0, "holes: none, or bytes left over")
    rows = list(struct.iter_unpack("<QQ", raw))
    ends = [-1, *(offset + length for offset, length in rows)]
    fine = all(length > 0 and offset > end for (offset, length), end in zip(rows, ends))
    need(fine and ends[-1] <= size, "holes: empty, not ascending or outside the file")
    return rows

def parse_xattrs(raw: bytes) -> list[list[bytes]]:
    """Names and values of extended attributes (12.1)."""
    pairs = cbor_decode(raw)
    need(each(row(octets(1, 2**32), BYTES))(pairs) and len(pairs) > 0, "attributes: malformed or none")
    names = [name for name, _ in pairs]
    need(ascending(names) and b"\0" not in b"".join(names), "attributes: bad names")
    return pairs

# ---- A vault that a key opens, sections 4, 5.2, 7, 9.10, 14
def unpad_body(plain: bytes) -> bytes:
    """The CBOR in the plaintext of a body (8.1)."""
    length = int.from_bytes(plain[:4], "little")
    need(len(plain) >= 4 and len(plain) == -(-(4 + length) // 512) * 512, "body: wrong length")
    need(not any(plain[4 + length :]), "body: wrong padding")
    return plain[4 : 4 + length]

class Vault:
    """Reads what a vault holds, with the keys of all epochs that one opened slot leads to."""
    def __init__(self, root: Path, log: Log, key_file: bytes | None, passphrase: bytes | None) -> None:
        self.root, self.log = root, log
        self.notes = [f"record {n} {claim.what}, says {claim.signer.hex()}" for n, claim in log.damage.items()]
        faults = ["no current slot opens with this key"]
        self._rs, self._sealing = dict[int, bytes](), dict[int, XWing]()
        for name in log.slots:
            try:
                slot = parse_slot(load(root / "slots" / name.hex(), SLOT_LEN_MAX, name))
                need(slot.vault_id == log.vault_id and slot.epoch < len(log.epochs), "of another vault or epoch")
                if slot.epoch not in self._rs and (secret := slot_secret(slot, key_file, passphrase)):
                    key = unwrap(slot, secret)
                    self._take_keys(slot.epoch, *((key, kdf(key, "reader")) if slot.purpose == 1 else (None, key)))
            except FormatError as fault:
                faults.append(f"slot {name.hex()}: {fault}")
        if not self._rs:
            raise Refused("; ".join(faults))

    def _take_keys(self, number: int, vk: bytes | None, rs: bytes) -> None:
        """Check keys of an epoch against its public keys (section 7), and go on to the epoch before (9.10)."""
        epoch, sealing = self.log.epochs[number], XWing(kdf(rs, "sealing key"))
        need(sealing.public == epoch.sealing_key, f"the sealing key of epoch {number} does not follow")
        if vk is not None:
            owner = ed25519.Ed25519PrivateKey.from_private_bytes(kdf(vk, "owner signing key")).public_key()
            need(owner.public_bytes_raw() == epoch.owner_key, f"the owner's key of epoch {number} does not follow")
            need(kdf(vk, "reader") == rs, f"the keys of epoch {number} do not belong together")
        self._rs[number], self._sealing[number] = rs, sealing

        def previous(secret: bytes, what: str, purpose: int, sealed: bytes) -> bytes:
            seal = Seal(kdf(secret, f"previous {what}"), self.log.vault_id, EPOCH, bytes(32))
            return seal.open(purpose, number, sealed)

        if number > 0:
            prev_vk = None if vk is None else previous(vk, "vault key", P_PREV_VK, epoch.previous_vault_key)
            prev_rs = previous(rs, "reader secret", P_PREV_RS, epoch.previous_reader_secret)
            self._take_keys(number - 1, prev_vk, prev_rs)

    def domain_key(self, domain: bytes, label: str) -> bytes:
        """A key of a dedup domain (section 4)."""
        number = int.from_bytes(domain[:4], "little")
        need(number in self._rs, f"no key for epoch {number}")
        return kdf(kdf(self._rs[number], "dedup domains"), label, domain)

    def _unseal(self, kind: int, head: bytes, domain: bytes, epoch: int | None) -> Seal:
        """The key of a pack or body from salt, enc and commitment; without an epoch all are tried (5.2)."""
        need(len(head) == SEAL_HEAD_LEN, "sealed object is too short")
        salt, enc, commitment = head[:32], head[32:1152], head[1152:]
        info = b"coffer/1 " + (b"pack" if kind == PACK else b"record") + b"\0" + self.log.vault_id + salt
        psk = self.domain_key(domain, "psk")
        for number in sorted(self._sealing, reverse=True):
            if epoch in (None, number):
                shared = self._sealing[number].decapsulate(enc)
                key, expected = hpke_keys(shared, psk, b"coffer/1 domain" + domain, info)
                if hmac.compare_digest(commitment, expected):
                    return Seal(key, self.log.vault_id, kind, salt)
        raise FormatError("commitment does not match: not sealed to a known key, or damaged")

    def open_body(self, record: Map) -> bytes:
        """The CBOR in the sealed body of a record (8.1)."""
        seal = self._unseal(RECORD, record.body[:SEAL_HEAD_LEN], record.domain, record.epoch)
        extra = struct.pack("<Q", record.number) + record.signer
        return unpad_body(seal.open(P_BODY, 0, record.body[SEAL_HEAD_LEN:], extra))

    @cache
    def _pack_seal(self, path: Path, domain: bytes) -> Seal:
        """The key of a pack; opening one is slow here, so it is kept (5.2)."""
        need(path.is_file() and PACK_LEN_MIN <= path.stat().st_size <= PACK_LEN_MAX, f"no pack {path} of a fit length")
        return self._unseal(PACK, read_at(path, 0, SEAL_HEAD_LEN), domain, None)

    @lru_cache(16)
    def _frame(self, domain: bytes, pack: bytes, number: int, offset: int, sealed_len: int) -> tuple[int, bytes]:
        """Kind and plain bytes of a frame (section 10)."""
        need(sealed_len <= PACK_LEN_MAX, "frame: beyond a limit")
        path = self.root / "packs" / pack.hex()[:2] / pack.hex()
        plain = self._pack_seal(path, domain).open(P_FRAME, number, read_at(path, offset, sealed_len))
        codec, kind, plain_len, payload = parse_frame(plain)
        return kind, payload if codec == 0 else decompress(payload, plain_len)

    @cache
    def _places(self, domain: bytes) -> dict[bytes, list[Place]]:
        """All places in live segments, then in removed ones, by the first 20 bytes of the ids (section 14)."""
        found: dict[bytes, list[Place]] = {}
        for name, segment in [*self.log.live.items(), *self.log.removed.items()]:
            try:
                if segment.domain == domain:
                    data = load(self.root / "index" / name.hex(), INDEX_LEN_MAX, name)
                    need(len(data) == segment.length and data[8:24] == domain, "not what the log says")
                    index = open_index(data, self.log.vault_id, self.domain_key(domain, "index"))
                    for chunk_id, place in index_places(index):
                        found.setdefault(chunk_id, []).append(place)
            except FormatError as fault:
                self.notes.append(f"index segment {name.hex()}: {fault}")
        return found

    def chunk(self, domain: bytes, kind: int, chunk_id: bytes, length: int) -> bytes:
        """The bytes of a chunk, its id recomputed (section 10)."""
        key = self.domain_key(domain, "data chunk id" if kind == DATA else "meta chunk id")
        why = "it has no place"
        for place in self._places(domain).get(chunk_id[:20], []):
            try:
                frame_kind, plain = self._frame(domain, *place[:4])
                need((frame_kind, len(plain), length) == (kind, place.plain_len, place.length), "the place is another")
                data = plain[place.offset : place.offset + length]
                need(KH(key, data) == chunk_id, "the place holds something else")
                return data
            except (FormatError, OSError) as fault:
                why = str(fault)
        raise FormatError(f"chunk {chunk_id.hex()} is lost: {why}")

    def blob(self, domain: bytes, value: bytes | list[Any]) -> bytes:
        """The bytes of a blob (12.1)."""
        return value if isinstance(value, bytes) else self.chunk(domain, META, *value)

    def content(self, domain: bytes, level: int, rows: bytes, limit: int = ENTRY_ROWS_MAX) -> Iterator[bytes]:
        """The bytes that a content list stands for, chunk by chunk (12.3)."""
        for chunk_id, length in parse_rows(rows, limit):
            data = self.chunk(domain, META if level else DATA, chunk_id, length)
            yield from self.content(domain, level - 1, data, CHUNK_ROWS_MAX) if level else [data]

    def tree(self, snapshot: Snapshot) -> Iterator[Map]:
        """All entries of a snapshot in order; order, counts and heights are checked (section 12)."""
        domain, seen = snapshot.record.domain, [None]  # of seen entries, the last path

        def walk(chunk_id: bytes, length: int, height: int, top: bool) -> Generator[Map, None, tuple[int, int]]:
            data = self.chunk(domain, META, chunk_id, length)
            count = size = 0
            for last_path, child_id, child_len, *sums in parse_node(data) if height else []:
                below = yield from walk(child_id, child_len, height - 1, False)
                need([seen[0], *below] == [last_path, *sums], "tree: a child is not what its node says")
                count, size = count + below[0], size + below[1]
            entries = parse_leaf(data) if height == 0 else []
            need(height > 0 or top or len(entries) > 0, "tree: empty leaf")
            for entry in entries:
                need(seen[0] is None or path_key(seen[0]) < path_key(entry.path), "tree: not in order")
                seen[0], count, size = entry.path, count + 1, size + entry.size
                yield entry
            return count, size

        yield from walk(*parse_manifest(self.open_body(snapshot.record)).root, True)

# ---- What the command line does
def choose(log: Log, name: str) -> Snapshot:
    """The snapshot that `name` means: an id, a prefix that only one id has, or `latest`."""
    live = [snapshot for key, snapshot in log.snapshots.items() if key not in log.forgotten]
    found = live[-1:] if name == "latest" else [s for key, s in log.snapshots.items() if key.hex().startswith(name)]
    if len(found) != 1 or not name:
        raise Refused(f"{len(found)} snapshots are named {name!r}")
    return found[0]

def show(raw: bytes) -> str:
    """Bytes from a vault for a terminal: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in raw.decode("utf-8", "backslashreplace"))

def run_list(vault: Vault) -> int:
    """Print id, record number, time in seconds since 1970, host, sources and marks of every snapshot."""
    for key, (number, record) in vault.log.snapshots.items():
        manifest = parse_manifest(vault.open_body(record))
        marks = ["forgotten"] * (key in vault.log.forgotten) + ["held"] * (key in vault.log.held)
        print(key.hex(), number, record.time, *map(show, [manifest.host.encode(), *manifest.sources]), *marks)
    return 0

def run_ls(vault: Vault, name: str) -> int:
    """Print every entry of a snapshot."""
    for entry in vault.tree(choose(vault.log, name)):
        more = [f"-> {show(entry.target)}"] * bool(entry.target) + [f"= {show(entry.link)}"] * bool(entry.link)
        print(KIND_NAMES[entry.kind], f"{entry.mode:04o}", entry.size, show(entry.path) or ".", *more)
    return 0

def write_file(vault: Vault, domain: bytes, entry: Map, path: bytes) -> None:
    """Write a file that must not exist yet, leaving its holes; size must be content plus holes (12.1)."""
    holes = parse_holes(vault.blob(domain, entry.holes), entry.size) if entry.holes else []
    starts, ends = [0, *(start + length for start, length in holes)], [*(start for start, _ in holes), entry.size]
    content = vault.content(domain, *entry.content) if entry.content else iter([entry.inline or b""])
    data = b""
    with open(path, "xb") as file:
        for start, end in zip(starts, ends):
            file.seek(start)
            while file.tell() < end:
                data = data or next(content, b"")
                need(data != b"", "content is shorter than size and holes say")
                data = data[file.write(data[: end - file.tell()]) :]
        need(data == next(content, b"") == b"", "content is longer than size and holes say")
        file.truncate(entry.size)

def run_restore(vault: Vault, name: str, target: str) -> int:
    """Restore below `target`, which must be new or empty, so that every parent there was made here."""
    snapshot, root, faults = choose(vault.log, name), os.fsencode(target), 0
    os.makedirs(root, exist_ok=True)
    if os.listdir(root) or os.path.islink(root):
        raise Refused("the target is not an empty directory")
    seen: dict[bytes, tuple[int, int, bool]] = {}  # kind, size, and whether it may be the first of hard links
    made: list[tuple[bytes, int, int, int]] = []

    def restore(entry: Map, path: bytes) -> None:
        parts = entry.path.split(b"/")
        for depth in range(1, len(parts)):
            parent = seen.setdefault(b"/".join(parts[:depth]), (DIRECTORY, 0, False))
            need(parent[0] == DIRECTORY, "lies below something not a directory")
        seen[entry.path] = (entry.kind, entry.size, entry.link is None)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry.xattrs is not None:
            parse_xattrs(vault.blob(snapshot.record.domain, entry.xattrs))
        if entry.link is not None:
            need(seen.get(entry.link) == (entry.kind, entry.size, True), "its first entry is missing, or not like it")
            os.link(os.path.join(root, entry.link), path, follow_symlinks=False)
            return
        if entry.kind == DIRECTORY:
            os.makedirs(path, exist_ok=True)
        elif entry.kind == SYMLINK:
            os.symlink(entry.target, path)
        elif entry.kind in NODE_TYPES:
            os.mknod(path, NODE_TYPES[entry.kind], os.makedev(*(entry.device or (0, 0))))
        else:
            write_file(vault, snapshot.record.domain, entry, path)
        made.append((path, entry.kind, entry.mode, entry.mtime))

    try:
        for entry in vault.tree(snapshot):
            try:
                restore(entry, os.path.join(root, entry.path) if entry.path else root)
            except (FormatError, OSError) as fault:
                faults += 1
                print(f"{show(entry.path)}: {fault}", file=sys.stderr)
    finally:
        for path, kind, mode, mtime in reversed(made):
            if kind != SYMLINK:
                os.chmod(path, mode)
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
    return 1 if faults else 0

def main() -> int:
    """Run what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description="Reads coffer vaults; exit status 0 sound, 1 not sound, 2 refused.")
    parser.add_argument("vault", type=Path)
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--key-file", type=Path)
    keys.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--vault-id", type=bytes.fromhex)
    parser.add_argument("verb", choices=["list", "ls", "restore"])
    parser.add_argument("arguments", nargs="*")
    o = parser.parse_args()
    if len(o.arguments) != {"list": 0, "ls": 1, "restore": 2}[o.verb]:
        parser.error(f"wrong number of arguments for {o.verb}")
    try:
        log = Log(o.vault, find_header(o.vault, o.vault_id))
        if log.minor > MINOR_KNOWN:
            raise Refused(f"the log raises the minor version to {log.minor}, which this reader does not know")
        key_file = parse_key_file(o.key_file.read_bytes()) if o.key_file else None
        passphrase = re.sub(rb"\r?\n\Z", b"", o.passphrase_file.read_bytes()) if o.passphrase_file else None
        vault = Vault(o.vault, log, key_file, passphrase)
        try:
            status = {"list": run_list, "ls": run_ls, "restore": run_restore}[o.verb](vault, *o.arguments)
        finally:
            for note in vault.notes:
                print(f"damaged: {note}", file=sys.stderr)
        return 1 if vault.notes else status
    except (Refused, FormatError, OSError) as fault:
        print(f"coffer_reader: {fault}", file=sys.stderr)
        return 2 if isinstance(fault, Refused) else 1

if __name__ == "__main__":
    sys.exit(main())
