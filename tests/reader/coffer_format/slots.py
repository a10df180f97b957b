"""Key slots (section 7) and key files (7.1). Slots of every kind are parsed; those of kinds 1 and 2 are opened."""

from __future__ import annotations

import hmac
import re

import cbor2
from argon2.low_level import Type, hash_secret_raw

from coffer_format.cbor import ID, INT, MAP, UINT, UINT32, Map, Table, cbor_decode, fields, integer, octets, text
from coffer_format.conventions import H, need
from coffer_format.limits import KEY_FILE_LEN_MAX, SLOT_LEN_MAX
from coffer_format.seals import P_WRAP, gcm_open, kdf

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
        5: ("mechanism", UINT), 6: ("iv", octets(1, 16), None), 7: ("mac", octets(32, 32), None),
        8: ("salt", octets(16, 16), None)},
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


def parse_key_file(data: bytes) -> bytes:
    """The secret in a key file (7.1)."""
    need(len(data) <= KEY_FILE_LEN_MAX, "key file is too long")
    lines = (line.strip(b" \t\r\f") for line in data.split(b"\n"))
    found = re.fullmatch(rb"COFFER-KEY-1-([0-9a-f]{72})", b"\n".join(line for line in lines if line[:1] not in b"#"))
    need(found is not None, "key file does not hold exactly one key")
    raw = bytes.fromhex(found[1].decode())
    need(H(b"coffer/1 key file" + raw[:32])[:4] == raw[32:], "key file: wrong check digits")
    return raw[:32]
