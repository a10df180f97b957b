"""Record objects of the log (section 8.1), kinds of records (9) and the manifest of a snapshot (9.1)."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from coffer_format.cbor import (
    BOOL, BYTES, DOMAIN, ID, INT, MAP, TEXT, UINT, UINT32, Map, Table, cbor_decode, each, fields, in_order, integer,
    octets, row,
)
from coffer_format.conventions import H, ascending, need
from coffer_format.limits import (
    ERRORS_MAX, HEADER_LEN_MAX, INDEX_LEN_MAX, LIST_MAX, LOG_NUMBER_MAX, PATH_LEN_MAX, RECORD_LEN_MAX,
    RECORD_PART_LEN_MAX, SLOT_COUNT_MAX, TREE_HEIGHT_MAX, TREE_LEN_MAX,
)
from coffer_format.seals import INDEX, PACK

# ---- The record object, section 8.1

ZERO_HOME = bytes(16)
NAMES = in_order(ID)
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


def unpad_body(plain: bytes) -> bytes:
    """The CBOR in the plaintext of a body (8.1)."""
    length = int.from_bytes(plain[:4], "little")
    need(len(plain) >= 4 and len(plain) == -(-(4 + length) // 512) * 512, "body: wrong length")
    need(not any(plain[4 + length :]), "body: wrong padding")
    return plain[4 : 4 + length]


# ---- Kinds, section 9

OWNER, MAINTAINER, PUT = 1, 2, 3  # roles
SNAPSHOT, PROGRESS, SLOTS, PROMOTE = 1, 2, 9, 15  # kinds
ORPHANS = in_order(row(integer(PACK, INDEX), ID))


class Kind(NamedTuple):
    """What a kind of record may be and hold (9)."""
    roles: tuple[int, ...]  # of those who may sign it
    parts: str  # keys 10, 11, 12 and the body: "-" not allowed, "?" allowed, "!" demanded
    details: Table | None  # None for no key 16


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
    owners = kind == 11 and any(not any(domain[4:]) for domain in details.domains or [])
    need(not owners, "enrolment for a domain of the owner")
    return details


# ---- The manifest, section 9.1

MANIFEST: Table = {
    1: ("collector", TEXT), 2: ("host", TEXT), 3: ("tags", in_order(TEXT, LIST_MAX), []),
    4: ("sources", each(octets(0, PATH_LEN_MAX), LIST_MAX)), 5: ("start_ns", INT), 6: ("end_ns", INT),
    7: ("root", row(ID, integer(1, TREE_LEN_MAX), integer(0, TREE_HEIGHT_MAX))), 8: ("statistics", MAP),
    9: ("parent", ID, None), 10: ("completeness", MAP), 11: ("program", TEXT), 12: ("user", TEXT, None),
    13: ("facts", MAP, None),
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
