#!/usr/bin/env python3
"""A second reader of coffer vaults, written from docs/format.md alone; section numbers below are its.

It shares no code with the main implementation and prefers plain code to speed. It never writes to a vault.

    coffer_reader.py VAULT [--key-file F | --passphrase-file F] [--vault-id HEX] [--head N:HEX] VERB
    coffer_reader.py vectors DIR

VERB is `list`, `ls SNAPSHOT`, `restore SNAPSHOT TARGET_DIR`, `verify` (needs no key) or `dump-record N`. SNAPSHOT is
an id, a prefix that only one id has, or `latest`. Exit status: 0 sound, 1 not sound, 2 refused.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import struct
import sys
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coffer_primitives import *  # its names are few and plain: CBOR, keys, seals

# Limits, section 16.
HEADER_LEN_MAX, SLOT_LEN_MAX, SLOT_COUNT_MAX = 8_192, 16_384, 64
RECORD_LEN_MAX, RECORD_PART_LEN_MAX, LOG_NUMBER_MAX = 8_388_608, 4_194_304, 999_999_999_999
PACK_LEN_MAX, PACK_FRAMES_MAX, FRAME_PLAIN_MAX, CHUNK_LEN_MAX = 134_217_728, 65_536, 16_777_216, 16_777_216
INDEX_LEN_MAX, INDEX_PACKS_MAX, INDEX_ROWS_MAX = 268_435_456, 65_536, 4_194_304
TREE_LEN_MAX, TREE_ITEMS_MAX, TREE_HEIGHT_MAX = 1_048_576, 65_536, 16
PATH_LEN_MAX, COMPONENT_LEN_MAX, INLINE_LEN_MAX, BLOB_INLINE_MAX = 65_535, 4_096, 128, 4_096
LINK_TARGET_MAX, CONTENT_ROWS_MAX, CONTENT_LEVEL_MAX = 65_535, 64, 4
KNOWN_MINOR, PAGE_LEN, TAG_LEN, PACK_HEAD_LEN, FOOTER_LEN = 0, 16_384, 16, 32 + 1120 + 32, 48

# ---- Objects, header, key slots, sections 2, 6, 7

def log_name(number: int) -> str:
    return f"log/{number:012d}"

def pack_name(name: bytes) -> str:
    return f"packs/{name.hex()[:2]}/{name.hex()}"

class Header:
    """The object `vault` (section 6)."""
    def __init__(self, data: bytes) -> None:
        need(len(data) <= HEADER_LEN_MAX and data[:16] == b"coffer vault\n\0\0\1", "not a header")
        f = Fields(cbor_decode(data[16:]), "header")
        self.vault_id = H(data)
        self.minor: int = f(2, UINT)
        if f(1, UINT) != 1 or self.minor > KNOWN_MINOR or f(3, UINT) != 1:
            raise Refused("the vault has a version or suite that this reader does not know")
        kind, low, bits, high = f(4, row(UINT, UINT, UINT, UINT))
        pcc = kind == 1 and 64 <= low and low + 256 <= high <= CHUNK_LEN_MAX and 6 <= bits <= 30
        need(pcc or (kind == 2 and 1 <= low == high <= CHUNK_LEN_MAX and bits == 0), "header: bad chunker")
        need(1 <= f(5, UINT) <= 3, "header: unknown store mode")
        self.sealing_key: bytes = f(6, exactly(1216))
        self.owner_key: bytes = f(7, ID)
        f(8, ID)

def find_header(store: Store, vault_id: bytes | None) -> tuple[Header, bool]:
    """The header, and whether it stands in its place; a lost one is taken from record 0 (section 14)."""
    data = store.read("vault", HEADER_LEN_MAX)
    if data is not None and vault_id in (None, H(data)):
        return Header(data), True
    if first := store.read(log_name(0), RECORD_LEN_MAX):
        record = Record(first)
        copy = (record.details or {}).get(1)
        if BYTES(copy) and H(copy) == record.vault_id and vault_id in (None, H(copy)):
            return Header(copy), False
    raise Refused("there is no vault with that id" if vault_id else "there is no vault")

class Slot:
    """A key slot (section 7). All kinds are parsed, kinds 1 and 2 can be opened."""
    def __init__(self, data: bytes) -> None:
        f = Fields(cbor_decode(data), "slot")
        self.vault_id: bytes = f(1, ID)
        self.epoch, self.purpose, self.kind = f(2, UINT), f(3, UINT), f(4, UINT)
        need(len(f(5, TEXT).encode()) <= 256, "slot: label is too long")
        f(6, INT)
        self.params = Fields(f(7, MAP), "slot parameters")
        own = self.kind in (1, 2, 6)
        need(own or not {8, 9} & set(f.map), "slot: salt or commitment in a kind without them")
        self.salt, self.commitment = (f(8, ID), f(9, ID)) if own else (b"", b"")
        self.wrapped: bytes = f(10, exactly(80) if own else at_most(4096))
        need(self.purpose in (1, 2) and 1 <= self.kind <= 7, "slot: unknown purpose or kind")
        self.context = cbor_encode({key: value for key, value in f.map.items() if key not in (9, 10)})

    def secret(self, key_file: bytes | None, passphrase: bytes | None) -> bytes | None:
        """The secret `s` from what the user gave, or None if this slot is not for it."""
        p = self.params
        if self.kind == 1 and passphrase is not None:
            memory, passes, lanes, salt = p(1, UINT), p(2, UINT), p(3, UINT), p(4, exactly(16))
            good = 65_536 <= memory <= 4_194_304 and 3 <= passes <= 16 and 1 <= lanes <= 16
            need(good, "slot: Argon2id parameters are outside the limits")
            return hash_secret_raw(passphrase, salt, passes, memory, lanes, 32, Type.ID, 0x13)
        fits = self.kind == 2 and key_file is not None and p(1, exactly(8)) == kdf(key_file, "key file id")[:8]
        return key_file if fits else None

    def unwrap(self, secret: bytes) -> bytes:
        keys = kdf(secret, "slot", self.salt + self.vault_id, 64)
        need(hmac.compare_digest(keys[32:], self.commitment), "not the secret of this slot")
        plain = gcm_open(keys[:32], P_WRAP, 0, self.wrapped, self.context)
        need(hmac.compare_digest(plain[32:], H(self.context)), "wrapped key is not bound to its slot")
        return plain[:32]

# ---- The log, sections 8 and 9

OWNER, MAINTAINER, PUT, READ = 1, 2, 3, 4
SNAPSHOT, PROGRESS, SLOTS, PROMOTE = 1, 2, 9, 15

KINDS: dict[int, tuple[str, tuple[int, ...], str]] = {
    # Name, roles that may sign, then keys 10, 11, 12, 16 and the body: "-" not allowed, "?" allowed, "!" demanded.
    1: ("snapshot", (OWNER, PUT), "?---!"),
    2: ("progress", (OWNER, PUT), "!---!"),
    3: ("forget", (OWNER, MAINTAINER), "---!!"),
    4: ("unforget", (OWNER, MAINTAINER), "?--!!"),
    5: ("hold", (OWNER, MAINTAINER), "---!!"),
    6: ("tag", (OWNER, MAINTAINER), "---!!"),
    7: ("prune", (OWNER, MAINTAINER), "??-!!"),
    8: ("sweep", (OWNER, MAINTAINER), "---!-"),
    9: ("slots", (OWNER,), "--!-?"),  # key 16 is demanded in record 0
    10: ("epoch", (OWNER,), "--!!?"),
    11: ("role", (OWNER,), "---!!"),
    12: ("policy", (OWNER,), "---?!"),
    13: ("approval", (OWNER, MAINTAINER), "---!!"),
    14: ("handover", (OWNER,), "---!!"),
    15: ("promote", (OWNER,), "---!!"),
    16: ("reconcile", (OWNER,), "---!?"),
    17: ("locks", (OWNER, MAINTAINER), "---!-"),
    18: ("evidence", (OWNER, MAINTAINER, PUT), "---!!"),
    19: ("checkpoint", (OWNER, MAINTAINER), "?--!!"),
}

class Record:
    """A well-formed record object (8.1); to make one of other bytes raises `FormatError`."""
    def __init__(self, data: bytes) -> None:
        need(80 <= len(data) <= RECORD_LEN_MAX, "record: length outside the limits")
        magic, public_len, body_len = struct.unpack_from("<8sII", data)
        need(magic == b"cofflog1", "record: wrong magic")
        need(max(public_len, body_len) <= RECORD_PART_LEN_MAX, "record: a part is too long")
        need(len(data) == 80 + public_len + body_len, "record: lengths do not add up")
        self.public, self.body = data[16 : 16 + public_len], data[16 + public_len : len(data) - 64]
        self.signature, self.chain = data[-64:], H(data)
        self.fields = f = Fields(cbor_decode(self.public), "record")
        self.vault_id, self.number, self.term, self.prev = f(1, ID), f(2, UINT), f(3, UINT), f(4, ID)
        self.signer, self.kind, self.minor, self.time = f(5, ID), f(6, UINT), f(7, UINT), f(8, INT)
        self.body_hash: bytes | None = f(9, ID, opt=True)
        self.added: list[list[Any]] | None = f(10, each(row(ID, UINT, DOMAIN)), opt=True)
        self.removed: list[bytes] | None = f(11, names(), opt=True)
        self.slots: list[bytes] | None = f(12, names(), opt=True)
        self.domain: bytes | None = f(13, DOMAIN, opt=True)
        self.epoch: int | None = f(14, UINT, opt=True)
        self.home: bytes = f(15, DOMAIN, opt=True) or bytes(16)
        self.details: dict[int, Any] | None = f(16, MAP, opt=True)
        need(ascending([entry[0] for entry in self.added or []]), "record: key 10 is not ascending")
        need(all(entry[1] <= INDEX_LEN_MAX for entry in self.added or []), "record: segment is too long")
        need(len(self.slots or []) <= SLOT_COUNT_MAX and self.number <= LOG_NUMBER_MAX, "record: beyond a limit")
        for value in (self.body_hash, self.domain, self.epoch):
            need((value is not None) == (body_len > 0), "record: keys 9, 13 and 14 do not fit the body")

    def signature_valid(self) -> bool:
        return ed25519_valid(self.signer, b"coffer/1 log record\0" + self.public, self.signature)

@dataclass
class Role:
    role: int
    domains: list[bytes]
    revoked: bool = False

@dataclass
class Snapshot:
    id: bytes
    number: int  # of the record that made it effective
    record: Record
    live: bool = True
    held: bool = False

class Epoch(NamedTuple):
    sealing_key: bytes
    owner_key: bytes
    prev_vk: bytes = b""
    prev_rs: bytes = b""

class Segment(NamedTuple):
    length: int
    domain: bytes
    number: int

class LogEntry(NamedTuple):
    """What replay says of a number: chain value (None if the record is missing), and why it is void, if it is."""

    chain: bytes | None
    reason: str | None = None

class Log:
    """The state of a vault by replay of its log (8.2)."""
    def __init__(self, store: Store, header: Header) -> None:
        self.vault_id = header.vault_id
        self.epochs = [Epoch(header.sealing_key, header.owner_key)]
        self.roles = {header.owner_key: Role(OWNER, [])}
        self.minor, self.term, self.home = header.minor, 0, bytes(16)
        self.slots: list[bytes] = []
        self.live: dict[bytes, Segment] = {}
        self.removed: dict[bytes, Segment] = {}  # and not swept
        self.ever_removed: set[bytes] = set()
        self.condemned: set[tuple[int, bytes]] = set()
        self.swept: tuple[set[bytes], set[bytes]] = (set(), set())  # segments, packs
        self.snapshots: dict[bytes, Snapshot] = {}
        self.last_prune = 0
        self.entries: list[LogEntry] = []
        self.damage: dict[int, str] = {}
        self.checkpoints: dict[int, bool] = {}
        listed = sorted(int(n) for n in store.list("log") if len(n) == 12 and n.isascii() and n.isdigit())
        for number in range(LOG_NUMBER_MAX + 1):
            length = store.size(log_name(number))
            if length is not None:
                data = store.read_range(log_name(number), 0, min(length, RECORD_LEN_MAX))
                self.entries.append(self._take(number, data, length))
            elif any(self._proves_gap(store, later) for later in listed if later > number):
                self.damage[number] = "is missing"
                self.entries.append(LogEntry(None, "malformed"))
            else:
                break
        self.surplus = sum(1 for number in listed if number >= len(self.entries))

    def _proves_gap(self, store: Store, number: int) -> bool:
        """Whether record `number` shows that those below it were there once."""
        try:
            record = Record(store.read(log_name(number), RECORD_LEN_MAX) or b"")
        except FormatError:
            return False
        role = self.roles.get(record.signer)
        ours = record.vault_id == self.vault_id and record.number == number
        return ours and role is not None and not role.revoked and record.signature_valid()

    def _take(self, number: int, data: bytes, length: int) -> LogEntry:
        if length > RECORD_LEN_MAX:
            return LogEntry(H(data + struct.pack("<Q", length)), "malformed")
        try:
            return LogEntry(H(data), self._judge(number, Record(data)))
        except FormatError:
            return LogEntry(H(data), "malformed")

    def _judge(self, number: int, record: Record) -> str | None:
        """Why `record` is void as record `number`; if it is not, None, and it has taken effect."""
        if record.vault_id != self.vault_id or record.number != number:
            return "foreign"
        if reason := self._judge_origin(record):
            return reason
        prev = self.entries[-1] if number else LogEntry(bytes(32))
        if record.prev != prev.chain:
            if prev.chain is not None and prev.reason not in ("malformed", "body", "signature"):
                return "chain"
            self.damage.setdefault(number - 1, f"had other bytes when record {number} was signed")
        if record.home != self.home:
            return "home"
        if record.term != self.term + (record.kind == PROMOTE):
            return "term"
        if reason := self._judge_rights(number, record):
            return reason
        try:
            need(number > 0 or record.kind == SLOTS, "record 0 is not of kind slots")
            self._check_details(number, record)
        except FormatError:
            return "details"
        for name in record.removed or []:
            self.removed[name] = self.live.pop(name)
            self.ever_removed.add(name)
        self._add(number, record)
        self.slots = self.slots if record.slots is None else record.slots
        self._effect(number, record)
        return None

    def _judge_origin(self, record: Record) -> str | None:
        """Rules 3 to 6."""
        role = self.roles.get(record.signer)
        if record.body_hash is not None and record.body_hash != H(record.body):
            return "body"
        if record.minor > self.minor:
            return "version"
        if role is None or role.revoked:
            return "signer"
        return None if record.signature_valid() else "signature"

    def _judge_rights(self, number: int, record: Record) -> str | None:
        """Rules 9 to 12."""
        kind, role = KINDS.get(record.kind), self.roles[record.signer]
        if kind is None:
            return "kind"
        rules = "--!!?" if record.kind == SLOTS and number == 0 else kind[2]
        parts = (record.added, record.removed, record.slots, record.details, record.body or None)
        if role.role not in kind[1] or any(rule == ("!" if p is None else "-") for rule, p in zip(rules, parts)):
            return "role"
        used = {domain for _, _, domain in record.added or []} | ({record.domain} if record.domain else set())
        if role.role == PUT and not used <= set(role.domains):
            return "domain"
        known = any(name in self.live or name in self.ever_removed for name, _, _ in record.added or [])
        return "segment" if known or not self.live.keys() >= set(record.removed or []) else None

    def _add(self, number: int, record: Record) -> None:
        for name, length, domain in record.added or []:
            self.live[name] = Segment(length, domain, number)
        if record.kind == SNAPSHOT:
            self.snapshots[record.chain] = Snapshot(record.chain, number, record)

    def _check_details(self, number: int, record: Record) -> None:
        """Rule 13: what section 9 states for the kind."""
        f = Fields(record.details or {}, "details")
        match record.kind:
            case 3 | 4 | 5 | 6:  # forget, unforget, hold, tag
                need(all(name in self.snapshots for name in f(1, names())), "not an effective snapshot")
                held = [name for name in f.map[1] if self.snapshots[name].held]
                need(record.kind != 3 or not held, "forget of a held snapshot")
                need(record.kind != 5 or BOOL(f.map.get(2)), "hold: key 2 is not a bool")
            case 7 | 8:  # prune, sweep
                need(self.last_prune <= f(1, UINT) < number, "base is outside its bounds")
                if record.kind == 7:
                    need(ascending(f(2, each(row(UINT, ID)))), "orphans are not ascending")
                    need(all(kind in (PACK, INDEX) for kind, _ in f.map[2]), "orphan of another object kind")
                else:
                    need(not set(f(2, names())) & set(self.live), "sweep of a live segment")
                    f(3, names())
            case 9 if number == 0:
                need(H(f(1, BYTES)) == self.vault_id, "record 0 does not carry the header")
            case 10:  # section 9.10
                f(2, exactly(1216)), f(4, exactly(48)), f(5, exactly(48)), f(6, BOOL)
                need(f(1, UINT) == len(self.epochs) and f(3, ID) not in self.roles, "epoch does not follow, or old key")
            case 11:  # section 9.11
                action, known = f(1, UINT), self.roles.get(f(2, ID))
                if action == 2:
                    need(known is not None and not known.revoked and known.role != OWNER, "no such key to revoke")
                    need(not {3, 4} & set(f.map), "revocation with a role or domains")
                else:
                    need(action == 1 and known is None, "unknown action, or the key was enrolled before")
                    need(f(3, UINT) in (MAINTAINER, PUT, READ) and f(4, names(16)) is not None, "bad role")
            case 12:  # section 9.12
                minor = f(1, UINT, opt=True)
                need(minor is None or minor >= self.minor, "policy lowers the minor version")
                if minor is not None and minor > KNOWN_MINOR:
                    raise Refused(f"record {number} raises the minor version beyond what this reader knows")
            case 13:
                f(1, ID), f(2, BOOL)
            case 14 | 15:  # handover, promote
                f(1, DOMAIN)
                need(record.kind == 14 or f(2, UINT) == number - 1 and f(3, ID) == record.prev, "wrong place")
            case 16:
                self._check_reconcile(f, number)
            case 17:
                f(1, INT), f(2, UINT)
            case 18 | 19:
                f(1, ID if record.kind == 18 else UINT)
                if record.kind == 19 and (digest := f(2, ID)) and f.map[1] == number - 1:
                    self.checkpoints[number] = H(cbor_encode(self.canonical())) == digest

    def _check_reconcile(self, f: Fields, number: int) -> None:
        """Kind 16: each quoted record must be one that could take effect here, but for its place in a log."""
        quoted = [Record(raw) for raw in f(1, each(BYTES))]
        for record in quoted:
            need(record.vault_id == self.vault_id and record.kind in (SNAPSHOT, PROGRESS), "unfit quoted record")
            fault = self._judge_origin(record) or self._judge_rights(number, record)
            need(fault is None and record.chain not in self.snapshots, f"quoted record: {fault or 'effective'}")
        added = [entry[0] for record in quoted for entry in record.added or []]
        need(len(set(added)) == len(added) and len({r.chain for r in quoted}) == len(quoted), "quoted twice")

    def _effect(self, number: int, record: Record) -> None:
        """What a record of these kinds does beyond keys 10 to 12; its details were checked before."""
        d = record.details or {}
        match record.kind:
            case 3 | 4:
                for name in d[1]:
                    self.snapshots[name].live = record.kind == 4
            case 5:
                for name in d[1]:
                    self.snapshots[name].held = d[2]
            case 7:
                self.condemned.update(map(tuple, d[2]))
                self.last_prune = number
            case 8:
                self.swept[0].update(d[2])
                self.swept[1].update(d[3])
                self.condemned -= {(INDEX, name) for name in d[2]} | {(PACK, name) for name in d[3]}
                self.removed = {name: segment for name, segment in self.removed.items() if name not in self.swept[0]}
                self.last_prune = number
            case 10:
                self.roles[self.epochs[-1].owner_key].revoked = True
                self.roles[d[3]] = Role(OWNER, [])
                self.epochs.append(Epoch(d[2], d[3], d[4], d[5]))
            case 11 if d[1] == 1:
                self.roles[d[2]] = Role(d[3], d[4])
            case 11:
                self.roles[d[2]].revoked = True
            case 12:
                self.minor = d.get(1, self.minor)
            case 14 | 15:
                self.home, self.term = d[1], record.term
            case 16:
                for raw in d[1]:
                    self._add(number, Record(raw))

    def canonical(self) -> dict[int, Any]:
        """The canonical state after the last record taken (9.19)."""

        def table(segments: dict[bytes, Segment]) -> list[list[Any]]:
            return [[name, s.length, s.domain, s.number] for name, s in sorted(segments.items())]

        epochs = [[number, epoch.sealing_key, epoch.owner_key] for number, epoch in enumerate(self.epochs)]
        roles = [[key, role.role, role.domains, role.revoked] for key, role in sorted(self.roles.items())]
        condemned = [list(orphan) for orphan in sorted(self.condemned)]
        snapshots = [[s.id, s.number, 1 if s.live else 2, s.held] for s in self.snapshots.values()]
        values = [len(self.entries) - 1, self.entries[-1].chain, self.term, self.home, self.minor, epochs, self.slots,
                  roles, table(self.live), table(self.removed), condemned, *map(sorted, self.swept), snapshots]
        return dict(enumerate(values, 1))

# ---- Keys of the vault, sections 4, 5.2, 7

class Keys:
    """Reader secrets of all epochs that one opened slot leads to, and what is derived from them."""
    def __init__(self, store: Store, log: Log, key_file: bytes | None, passphrase: bytes | None) -> None:
        self.vault_id, self.log = log.vault_id, log
        self._rs: dict[int, bytes] = {}
        self._sealing: dict[int, XWing] = {}
        faults = ["no current slot is for this key"]
        for name in log.slots:
            try:
                data = store.read(f"slots/{name.hex()}", SLOT_LEN_MAX)
                need(data is not None and H(data) == name, f"slot {name.hex()} is missing or damaged")
                slot = Slot(data or b"")
                need(slot.vault_id == log.vault_id and slot.epoch < len(log.epochs), "slot is of another vault")
                if slot.epoch not in self._rs and (secret := slot.secret(key_file, passphrase)):
                    key = slot.unwrap(secret)
                    self._take(slot.epoch, *((key, None) if slot.purpose == 1 else (None, key)))
            except FormatError as fault:
                faults.append(str(fault))
        if not self._rs:
            raise Refused("; ".join(faults))

    def _take(self, number: int, vk: bytes | None, rs: bytes | None) -> None:
        """Check the keys of an epoch against its public keys, and go on to the one before (9.10)."""
        epoch = self.log.epochs[number]
        if vk is not None:
            owner = Ed25519PrivateKey.from_private_bytes(kdf(vk, "owner signing key")).public_key()
            need(owner.public_bytes_raw() == epoch.owner_key, f"the owner's key of epoch {number} does not follow")
            need(rs in (None, kdf(vk, "reader")), f"the keys of epoch {number} do not belong together")
            rs = kdf(vk, "reader")
        assert rs is not None
        sealing = XWing(kdf(rs, "sealing key"))
        need(sealing.public == epoch.sealing_key, f"the sealing key of epoch {number} does not follow")
        self._rs[number], self._sealing[number] = rs, sealing
        if number > 0:
            vk_seal, rs_seal = (Seal(kdf(secret, label), self.vault_id, EPOCH, bytes(32)) for secret, label in
                                ((vk or rs, "previous vault key"), (rs, "previous reader secret")))
            prev_vk = vk_seal.open(P_PREV_VK, number, epoch.prev_vk) if vk is not None else None
            self._take(number - 1, prev_vk, rs_seal.open(P_PREV_RS, number, epoch.prev_rs))

    def domain(self, domain: bytes, label: str) -> bytes:
        """A key of a dedup domain (the table in section 4)."""
        number = int.from_bytes(domain[:4], "little")
        need(number in self._rs, f"no key for epoch {number}")
        return kdf(kdf(self._rs[number], "dedup domains"), label, domain)

    def unseal(self, kind: int, head: bytes, domain: bytes, epoch: int | None) -> Seal:
        """The key of a pack or body from salt, enc and commitment (5.2); without an epoch all are tried."""
        need(len(head) == PACK_HEAD_LEN, "sealed object is too short")
        salt, enc, commitment = head[:32], head[32:1152], head[1152:]
        info = b"coffer/1 " + (b"pack" if kind == PACK else b"record") + b"\0" + self.vault_id + salt
        psk = self.domain(domain, "psk")
        for number in sorted(self._sealing, reverse=True) if epoch is None else [epoch]:
            need(number in self._sealing, f"no key for epoch {number}")
            shared = self._sealing[number].decapsulate(enc)
            key, expected = hpke_keys(shared, psk, b"coffer/1 domain" + domain, info)
            if hmac.compare_digest(commitment, expected):
                return Seal(key, self.vault_id, kind, salt)
        raise FormatError("commitment does not match: not sealed to a known key, or damaged")

    def open_body(self, record: Record) -> Any:
        """The CBOR map in a sealed body (8.1)."""
        seal = self.unseal(RECORD, record.body[:PACK_HEAD_LEN], record.domain or b"", record.epoch)
        extra = struct.pack("<Q", record.number) + record.signer
        plain = seal.open(P_BODY, 0, record.body[PACK_HEAD_LEN:], extra)
        length = int.from_bytes(plain[:4], "little")
        need(len(plain) == -(-(4 + length) // 512) * 512 and not any(plain[4 + length :]), "body: wrong padding")
        return cbor_decode(plain[4 : 4 + length])

# ---- Index segments and packs, sections 10 and 11

class Place(NamedTuple):
    """Where a chunk is: a frame of a pack, and a range of the frame's plain bytes."""

    pack: bytes
    frame: int
    frame_offset: int
    sealed_len: int
    plain_len: int
    offset: int
    length: int

class Index:
    """An index segment (section 11). Without `unlock` only its pack table can be read."""
    def __init__(self, data: bytes) -> None:
        need(104 <= len(data) <= INDEX_LEN_MAX, "index segment: length outside the limits")
        head = struct.unpack_from("<8s16s32s32sIIQ", data)
        magic, self.domain, self.salt, self.commitment, packs, self.frames, self.chunks = head
        need(magic == b"coffidx1", "index segment: wrong magic")
        need(packs <= INDEX_PACKS_MAX and max(self.frames, self.chunks) <= INDEX_ROWS_MAX, "index segment: too large")
        self._data, self._pages = data, {}
        self._lens = {P_FRAME_PAGE: 4 * packs + 12 * self.frames, P_CHUNK_PAGE: 32 * self.chunks}
        sealed = [length + -(-length // PAGE_LEN) * TAG_LEN for length in self._lens.values()]
        start = 104 + 40 * packs
        self._starts = {P_FRAME_PAGE: start, P_CHUNK_PAGE: start + sealed[0]}
        need(len(data) == start + sum(sealed), "index segment: length does not fit its tables")
        self.packs: list[tuple[bytes, int]] = list(struct.iter_unpack("<32sQ", data[104:start]))
        need(len({name for name, _ in self.packs}) == packs, "index segment: pack named twice")
        need(all(length <= PACK_LEN_MAX for _, length in self.packs), "index segment: pack is too long")

    def unlock(self, vault_id: bytes, index_key: bytes) -> None:
        keys = kdf(index_key, "index segment", vault_id + self.salt, 64)
        need(hmac.compare_digest(keys[32:], self.commitment), "index segment: commitment does not match")
        self._seal = Seal(keys[:32], vault_id, INDEX, self.salt)

    def _read(self, purpose: int, offset: int, length: int) -> bytes:
        """Bytes of a table; the pages that hold them are opened when first needed."""
        need(offset + length <= self._lens[purpose], "index segment: row outside its table")
        out = b""
        while len(out) < length:
            page, at = divmod(offset + len(out), PAGE_LEN)
            if (purpose, page) not in self._pages:
                size = min(PAGE_LEN, self._lens[purpose] - page * PAGE_LEN) + TAG_LEN
                start = self._starts[purpose] + page * (PAGE_LEN + TAG_LEN)
                plain = self._seal.open(purpose, page, self._data[start : start + size])
                rows = [plain[i : i + 20] for i in range(0, len(plain), 32)]
                need(purpose == P_FRAME_PAGE or ascending(rows), "index segment: chunks are not ascending")
                self._pages[purpose, page] = plain
            out += self._pages[purpose, page][at : at + length - len(out)]
        return out

    def find(self, chunk_id: bytes) -> Place | None:
        first = bisect_left(range(self.chunks), chunk_id[:20], key=lambda n: self._read(P_CHUNK_PAGE, 32 * n, 20))
        if first == self.chunks or self._read(P_CHUNK_PAGE, 32 * first, 20) != chunk_id[:20]:
            return None
        return self._place(*struct.unpack("<HHII", self._read(P_CHUNK_PAGE, 32 * first + 20, 12)))

    def _place(self, pack: int, frame: int, offset: int, length: int) -> Place:
        need(pack < len(self.packs), "index segment: no such pack")
        first = int.from_bytes(self._read(P_FRAME_PAGE, 4 * pack, 4), "little")
        last = pack + 1 == len(self.packs)
        end = self.frames if last else int.from_bytes(self._read(P_FRAME_PAGE, 4 * pack + 4, 4), "little")
        need(first + frame < end <= self.frames, "index segment: no such frame")
        at = 4 * len(self.packs) + 12 * (first + frame)
        start, sealed_len, plain_len = struct.unpack("<III", self._read(P_FRAME_PAGE, at, 12))
        name, stored = self.packs[pack]
        need(PACK_HEAD_LEN <= start and start + sealed_len <= stored - FOOTER_LEN, "index segment: frame outside pack")
        return Place(name, frame, start, sealed_len, plain_len, offset, length)

class Packs:
    """Opens frames and directories of packs (section 10)."""
    def __init__(self, store: Store, keys: Keys) -> None:
        self._store, self._keys = store, keys
        self._seals: dict[tuple[bytes, bytes], Seal] = {}
        self._frames: OrderedDict[tuple[bytes, int, int], tuple[int, bytes]] = OrderedDict()

    def _seal(self, name: bytes, domain: bytes) -> Seal:
        if (name, domain) not in self._seals:
            size = self._store.size(pack_name(name))
            need(size is not None and size <= PACK_LEN_MAX, f"pack {name.hex()} is missing or too long")
            head = self._store.read_range(pack_name(name), 0, PACK_HEAD_LEN)
            self._seals[name, domain] = self._keys.unseal(PACK, head, domain, None)
        return self._seals[name, domain]

    def frame(self, domain: bytes, p: Place) -> tuple[int, bytes]:
        """Kind and plain bytes of the frame that `p` lies in."""
        key = (p.pack, p.frame, p.frame_offset)
        seal = self._seal(p.pack, domain)
        if key not in self._frames:
            need(1 <= p.plain_len <= FRAME_PLAIN_MAX and p.sealed_len <= PACK_LEN_MAX, "frame: beyond a limit")
            sealed = self._store.read_range(pack_name(p.pack), p.frame_offset, p.sealed_len)
            data = seal.open(P_FRAME, p.frame, sealed)
            need(len(data) >= 8, "frame is too short")
            codec, kind, zero, plain_len = struct.unpack_from("<BBHI", data)
            need(codec in (0, 1) and kind in (1, 2) and zero == 0, "frame: unknown codec or kind")
            need(plain_len == p.plain_len, "frame: plain length differs from what the index says")
            plain = data[8:] if codec == 0 else zstd_open(data[8:], plain_len)
            need(len(plain) == plain_len, "frame: wrong plain length")
            self._frames[key] = kind, plain
            if len(self._frames) > 8:
                self._frames.popitem(last=False)
        return self._frames[key]

    def directory(self, name: bytes, domain: bytes) -> list[tuple[bytes, Place]]:
        """Ids and places of all chunks in a pack, from its directory."""
        seal = self._seal(name, domain)
        size = self._store.size(pack_name(name)) or 0
        need(size >= PACK_HEAD_LEN + FOOTER_LEN, "pack is too short")
        footer = seal.open(P_FOOTER, 0, self._store.read_range(pack_name(name), size - FOOTER_LEN, FOOTER_LEN))
        start, sealed_len, used, frames, zero = struct.unpack("<QQQII", footer)
        need(PACK_HEAD_LEN <= start and start + sealed_len + FOOTER_LEN == size and zero == 0, "pack: bad footer")
        plain = seal.open(P_DIRECTORY, 0, self._store.read_range(pack_name(name), start, sealed_len))
        need(24 <= used <= len(plain) and frames <= PACK_FRAMES_MAX, "pack: bad directory")
        count, chunks, own_domain = struct.unpack_from("<II16s", plain)
        need(count == frames and used == 24 + 16 * frames + 36 * chunks, "pack: directory does not fit its counts")
        need(own_domain == domain and not any(plain[used:]), "pack: wrong domain or padding")
        need(size == padme(size - (len(plain) - used)), "pack: wrong padded length")
        rows = struct.iter_unpack("<32sI", plain[24 + 16 * frames : used])
        at, places = PACK_HEAD_LEN, []
        for number, entry in enumerate(struct.iter_unpack("<IIII", plain[24 : 24 + 16 * frames])):
            offset, frame_sealed, plain_len, inside = entry
            need(offset == at and 1 <= inside <= chunks - len(places), "pack: bad frame row")
            at, filled = at + frame_sealed, 0
            for chunk_id, length in (next(rows) for _ in range(inside)):
                need(1 <= length <= CHUNK_LEN_MAX, "pack: bad chunk row")
                places.append((chunk_id, Place(name, number, offset, frame_sealed, plain_len, filled, length)))
                filled += length
            need(filled == plain_len, "pack: chunks do not fill their frame")
        need(at == start and len(places) == chunks, "pack: frames or chunks left over")
        return places

# ---- Manifests and trees, sections 9.1 and 12

FILE, DIRECTORY, SYMLINK, RESOURCE = 1, 2, 3, 8
KIND_NAMES = ("", "file", "dir", "symlink", "fifo", "socket", "char", "block", "resource")
DATA, META = 1, 2
ROOT = row(ID, UINT, UINT)
CHILD = row(BYTES, ID, UINT, UINT, UINT)
CONTENT = row(UINT, at_most(36 * CONTENT_ROWS_MAX))
BLOB: Test = lambda v: at_most(BLOB_INLINE_MAX)(v) or row(ID, UINT)(v)

def path_key(path: bytes) -> bytes:
    """Orders as section 12 does: component by component, the separator below every other byte."""
    return path.replace(b"/", b"\0")

def path_valid(path: bytes) -> bool:
    parts = path.split(b"/")
    fine = all(0 < len(part) <= COMPONENT_LEN_MAX and part not in (b".", b"..") for part in parts)
    return len(path) <= PATH_LEN_MAX and b"\0" not in path and (fine or path == b"")

class Entry:
    """A tree entry (12.1)."""
    def __init__(self, value: Any) -> None:
        f = Fields(value, "entry")
        self.path, self.kind, self.mode = f(1, BYTES), f(2, UINT), f(3, UINT)
        need(path_valid(self.path), f"entry: bad path {self.path!r}")
        need(1 <= self.kind <= 8 and self.mode <= 0o7777, "entry: bad kind or mode")
        need(self.path != b"" or self.kind == DIRECTORY, "entry: empty path of something not a directory")
        self.uid, self.gid, self.mtime = f(4, UINT), f(5, UINT), f(8, INT)
        f(6, BYTES, opt=True), f(7, BYTES, opt=True), f(17, UINT, opt=True)
        self.size: int = f(9, UINT, opt=True) or 0
        self.inline: bytes | None = f(10, at_most(INLINE_LEN_MAX), opt=True)
        self.content: list[Any] | None = f(11, CONTENT, opt=True)
        self.target: bytes | None = f(12, at_most(LINK_TARGET_MAX), opt=True)
        self.link: bytes | None = f(13, BYTES, opt=True)
        self.xattrs, self.holes = f(14, BLOB, opt=True), f(15, BLOB, opt=True)
        device, service = f(16, row(UINT, UINT), opt=True), f(18, MAP, opt=True)
        has_content = self.inline is not None or self.content is not None
        need(not (self.inline is not None and self.content is not None), "entry: content twice")
        need(not has_content or self.kind in (FILE, RESOURCE) and self.link is None, "entry: content out of place")
        need(self.inline is None or self.kind == FILE, "entry: inline content of a resource")
        need(self.size == 0 or self.kind in (FILE, RESOURCE), "entry: size of something without content")
        need(self.holes is None or self.kind == FILE and self.link is None, "entry: holes out of place")
        need((self.target is not None) == (self.kind == SYMLINK and self.link is None), "entry: bad link target")
        need((device is not None) == (self.kind in (6, 7) and self.link is None), "entry: bad device numbers")
        need(service is None or self.kind == RESOURCE, "entry: metadata of something not a resource")
        linked = self.link is None or path_valid(self.link) and path_key(self.link) < path_key(self.path)
        need(linked and (self.link is None or self.kind != DIRECTORY), "entry: bad hard link")

class Vault:
    """A vault that was opened with a key."""
    def __init__(self, store: Store, log: Log, keys: Keys) -> None:
        self.store, self.log, self.keys = store, log, keys
        self.packs = Packs(store, keys)
        self._index: dict[bytes, Index | None] = {}
        self._scanned: dict[bytes, dict[bytes, list[Place]]] = {}
        self.notes: list[str] = []

    def manifest(self, snapshot: Snapshot) -> Fields:
        """The manifest of a snapshot (9.1)."""
        f = Fields(self.keys.open_body(snapshot.record), "manifest")
        f(1, TEXT), f(2, TEXT), f(4, each(BYTES)), f(5, INT), f(6, INT), f(11, TEXT)
        need(ascending(f(3, each(TEXT), opt=True) or []), "manifest: tags are not ascending")
        need(f(7, ROOT)[2] <= TREE_HEIGHT_MAX and all(map(UINT, f(8, MAP).values())), "manifest: bad root or numbers")
        f(9, ID, opt=True), f(12, TEXT, opt=True), f(13, MAP, opt=True)
        done = Fields(f(10, MAP), "completeness")
        done(1, BOOL), done(3, UINT)
        need(len(done(2, each(row(BYTES, TEXT)))) <= 1000, "manifest: too many errors listed")
        return f

    def _segment(self, name: bytes, segment: Segment) -> Index | None:
        if name not in self._index:
            self._index[name] = None
            try:
                data = self.store.read(f"index/{name.hex()}", INDEX_LEN_MAX)
                need(data is not None and len(data) == segment.length and H(data) == name, "missing or damaged")
                index = Index(data or b"")
                need(index.domain == segment.domain, "of another domain than the log says")
                index.unlock(self.log.vault_id, self.keys.domain(index.domain, "index"))
                self._index[name] = index
            except FormatError as fault:
                self.notes.append(f"index segment {name.hex()}: {fault}")
        return self._index[name]

    def _places(self, domain: bytes, chunk_id: bytes) -> Iterator[Place]:
        """All places for a chunk: live segments, then removed ones, then directories of packs (section 14)."""
        for segments in (self.log.live, self.log.removed):
            for name, segment in segments.items():
                if segment.domain == domain and (index := self._segment(name, segment)):
                    try:
                        if place := index.find(chunk_id):
                            yield place
                    except FormatError as fault:
                        self.notes.append(f"index segment {name.hex()}: {fault}")
        if domain not in self._scanned:
            found = self._scanned[domain] = {}
            for folder in self.store.list("packs"):
                for pack in self.store.list(f"packs/{folder}"):
                    try:
                        for known_id, place in self.packs.directory(bytes.fromhex(pack), domain):
                            found.setdefault(known_id, []).append(place)
                    except (FormatError, ValueError):
                        continue
        yield from self._scanned[domain].get(chunk_id, [])

    def chunk(self, domain: bytes, kind: int, chunk_id: bytes, length: int) -> bytes:
        """The bytes of a chunk, its id recomputed (section 10)."""
        need(1 <= length <= CHUNK_LEN_MAX, "chunk: length outside the limits")
        key = self.keys.domain(domain, "data chunk id" if kind == DATA else "meta chunk id")
        fault = "no index segment or pack gives it a place"
        for place in self._places(domain, chunk_id):
            try:
                need(place.length == length, "the place has another length")
                frame_kind, plain = self.packs.frame(domain, place)
                data = plain[place.offset : place.offset + length]
                need(frame_kind == kind and KH(key, data) == chunk_id, "the place holds something else")
                return data
            except FormatError as error:
                fault = str(error)
        raise FormatError(f"chunk {chunk_id.hex()} is lost: {fault}")

    def blob(self, domain: bytes, value: Any) -> bytes:
        return value if isinstance(value, bytes) else self.chunk(domain, META, *value)

    def holes(self, domain: bytes, entry: Entry) -> list[tuple[int, int]]:
        raw = self.blob(domain, entry.holes) if entry.holes is not None else b""
        need(len(raw) % 16 == 0, "holes: bytes left over")
        rows, end = list(struct.iter_unpack("<QQ", raw)), -1
        for offset, length in rows:
            need(offset > end and length > 0 and offset + length <= entry.size, "holes: not ascending or outside")
            end = offset + length
        return rows

    def xattrs(self, domain: bytes, entry: Entry) -> list[list[bytes]]:
        """Extended attributes, checked; they are not restored."""
        pairs = cbor_decode(self.blob(domain, entry.xattrs)) if entry.xattrs is not None else []
        need(each(row(BYTES, BYTES))(pairs) and ascending([pair[0] for pair in pairs]), "malformed attributes")
        return pairs

    def content(self, domain: bytes, entry: Entry) -> Iterator[bytes]:
        """The bytes of a file outside its holes (12.1, 12.3)."""

        def expand(level: int, rows: bytes) -> Iterator[bytes]:
            need(len(rows) > 0 and len(rows) % 36 == 0, "content list: malformed rows")
            for chunk_id, length in struct.iter_unpack("<32sI", rows):
                data = self.chunk(domain, DATA if level == 0 else META, chunk_id, length)
                yield from [data] if level == 0 else expand(level - 1, data)

        if entry.inline is not None:
            yield entry.inline
        elif entry.content is not None:
            need(entry.content[0] <= CONTENT_LEVEL_MAX, "content list: too many levels")
            yield from expand(*entry.content)

    def tree(self, snapshot: Snapshot) -> Iterator[Entry]:
        """All entries of a snapshot in order, with every check of section 12."""
        domain = snapshot.record.domain or b""
        last: list[bytes] = []

        def walk(chunk_id: bytes, length: int, height: int, top: bool) -> Generator[Entry, None, tuple[int, int]]:
            need(length <= TREE_LEN_MAX, "tree: leaf or node is too long")
            items = cbor_decode(self.chunk(domain, META, chunk_id, length))
            need(LIST(items) and len(items) <= TREE_ITEMS_MAX, "tree: leaf or node is not an array, or too large")
            need(len(items) > 0 or (top and height == 0), "tree: empty leaf or node")
            count = size = 0
            for item in items:
                if height > 0:
                    need(CHILD(item), "tree: malformed child")
                    below = yield from walk(item[1], item[2], height - 1, False)
                    need(last == [item[0]] and below == (item[3], item[4]), "tree: child is not as its node says")
                    count, size = count + below[0], size + below[1]
                    continue
                entry = Entry(item)
                need(not last or path_key(last[0]) < path_key(entry.path), "tree: paths are not ascending")
                last[:] = [entry.path]
                if entry.link is None:
                    size += entry.size - sum(hole for _, hole in self.holes(domain, entry))
                count += 1
                yield entry
            return count, size

        root = self.manifest(snapshot)(7, ROOT)
        yield from walk(*root, True)

# ---- What the command line does

def choose(log: Log, text: str) -> Snapshot:
    """The snapshot that `text` names: an id, a prefix that only one id has, or `latest`."""
    live = [snapshot for snapshot in log.snapshots.values() if snapshot.live]
    found = live[-1:] if text == "latest" else [s for s in log.snapshots.values() if s.id.hex().startswith(text)]
    if len(found) != 1 or not text:
        raise Refused(f"{len(found)} snapshots are named {text!r}")
    return found[0]

def show(raw: bytes) -> str:
    """Bytes from a vault for a terminal: what cannot be printed is escaped."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

def run_list(vault: Vault) -> int:
    faults = 0
    for snapshot in vault.log.snapshots.values():
        when = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=snapshot.record.time)
        marks = ("" if snapshot.live else " forgotten") + (" held" if snapshot.held else "")
        try:
            manifest = vault.manifest(snapshot)
            about = " ".join([show(manifest.map[2].encode()), *map(show, manifest.map[4])])
        except FormatError as fault:
            about, faults = f"unreadable: {fault}", faults + 1
        print(f"{snapshot.id.hex()} {snapshot.number} {when:%Y-%m-%dT%H:%M:%SZ} {about}{marks}")
    return 1 if faults else 0

def run_ls(vault: Vault, name: str) -> int:
    for entry in vault.tree(choose(vault.log, name)):
        more = f" -> {show(entry.target)}" if entry.target else f" = {show(entry.link)}" if entry.link else ""
        print(f"{KIND_NAMES[entry.kind]} {entry.mode:04o} {entry.size} {show(entry.path) or '.'}{more}")
    return 0

def write_file(vault: Vault, domain: bytes, entry: Entry, path: bytes) -> None:
    """Write a file that must not exist yet, leaving its holes; size must be content plus holes (12.1)."""
    holes = vault.holes(domain, entry)
    starts, ends = [0] + [offset + length for offset, length in holes], [offset for offset, _ in holes] + [entry.size]
    gaps = [(start, end - start) for start, end in zip(starts, ends) if end > start]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        for data in vault.content(domain, entry):
            while data:
                need(len(gaps) > 0, "content is longer than size and holes say")
                offset, length = gaps[0]
                part, data = data[:length], data[length:]
                os.pwrite(fd, part, offset)
                gaps[:1] = [(offset + len(part), length - len(part))] if len(part) < length else []
        need(not gaps, "content is shorter than size and holes say")
        os.ftruncate(fd, entry.size)
    finally:
        os.close(fd)

def run_restore(vault: Vault, name: str, target: str) -> int:
    """Restore below `target`, which must be new or empty, so that every parent there was made here."""
    snapshot, root = choose(vault.log, name), os.fsencode(target)
    domain = snapshot.record.domain or b""
    os.makedirs(root, exist_ok=True)
    if os.listdir(root) or os.path.islink(root):
        raise Refused("the target is not an empty directory")
    made: dict[bytes, int] = {b"": DIRECTORY}
    directories: list[tuple[bytes, Entry]] = []
    faults = 0
    for entry in vault.tree(snapshot):
        path = os.path.join(root, entry.path) if entry.path else root
        try:
            parts = entry.path.split(b"/")
            for depth in range(1, len(parts)):
                parent = b"/".join(parts[:depth])
                if parent not in made:
                    os.mkdir(os.path.join(root, parent))
                need(made.setdefault(parent, DIRECTORY) == DIRECTORY, "lies below something not a directory")
            vault.xattrs(domain, entry)
            if entry.link is not None:
                need(made.get(entry.link) == made.setdefault(entry.path, entry.kind), "its hard link was not restored")
                os.link(os.path.join(root, entry.link), path, follow_symlinks=False)
                continue
            elif entry.kind == DIRECTORY:
                if entry.path:
                    os.mkdir(path)
                directories.append((path, entry))
            elif entry.kind == SYMLINK:
                os.symlink(entry.target or b"", path)
            elif entry.kind in (FILE, RESOURCE):
                write_file(vault, domain, entry, path)
                os.chmod(path, entry.mode)
            else:
                print(f"left out: {KIND_NAMES[entry.kind]} {show(entry.path)}", file=sys.stderr)
                continue
            os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)
            made[entry.path] = entry.kind
        except (FormatError, OSError, ValueError) as fault:
            faults += 1
            print(f"{show(entry.path)}: {fault}", file=sys.stderr)
    for path, entry in reversed(directories):
        os.chmod(path, entry.mode)
        os.utime(path, ns=(entry.mtime, entry.mtime))
    return 1 if faults else 0

def run_verify(store: Store, header_whole: bool, log: Log, head: str | None) -> int:
    """What can be proved without a key (section 14)."""
    faults = [] if header_whole else ["the header is missing or damaged; its copy in record 0 was used"]
    faults += [f"record {number} {what}" for number, what in sorted(log.damage.items())]
    faults += [f"checkpoint {number} states another state" for number, same in log.checkpoints.items() if not same]
    if not log.entries or log.entries[0].reason:
        faults.append("record 0 is not effective: an unfinished vault, or not this vault's log")

    def check(name: str, digest: bytes, length: int | None, limit: int) -> bool:
        size = store.size(name)
        whole = size is not None and size <= limit and length in (None, size) and store.hash(name) == digest
        faults.extend([] if whole else [f"{name} is missing or damaged"])
        return whole

    for name in log.slots:
        check(f"slots/{name.hex()}", name, None, SLOT_LEN_MAX)
    packs: set[tuple[bytes, int]] = set()
    for name, segment in log.live.items():
        if check(f"index/{name.hex()}", name, segment.length, INDEX_LEN_MAX):
            try:
                index = Index(store.read(f"index/{name.hex()}", INDEX_LEN_MAX) or b"")
                need(index.domain == segment.domain, "of another domain than the log says")
                packs.update(index.packs)
            except FormatError as fault:
                faults.append(f"index/{name.hex()}: {fault}")
    for name, length in sorted(packs):
        check(pack_name(name), name, length, PACK_LEN_MAX)
    if head is not None:
        seen, _, digits = head.partition(":")
        if not seen.isdecimal() or int(seen) >= len(log.entries):
            faults.append(f"the log ends before record {seen}: rolled back")
        elif (log.entries[int(seen)].chain or b"").hex() != digits:
            faults.append(f"record {seen} is not the one of the head given: forked")
    print(f"vault {log.vault_id.hex()}")
    for number, entry in enumerate(log.entries):
        if entry.reason:
            print(f"record {number} is void: {entry.reason}")
        if number + 1 == len(log.entries):
            print(f"head {number}:{(entry.chain or b'').hex()}")
    live = sum(snapshot.live for snapshot in log.snapshots.values())
    print(f"{len(log.entries)} records, {len(log.snapshots)} snapshots ({live} live), {len(log.slots)} slots, "
          f"{len(log.live)} segments, {len(packs)} packs, {log.surplus} surplus objects under log/")
    print(*(f"FAULT {line}" for line in faults), "not sound" if faults else "sound", sep="\n")
    return 1 if faults else 0

def run_dump(store: Store, log: Log, keys: Keys | None, number: int) -> int:
    """Print a record, and its body where a key is given."""
    record = Record(store.read(log_name(number), RECORD_LEN_MAX) or b"")
    print(f"record {number} kind {record.kind} chain {record.chain.hex()} {log.entries[number:number + 1]}")
    for value in [record.fields.map, keys.open_body(record) if keys and record.body else None]:
        print(json.dumps(value, default=bytes.hex, indent=1))
    return 0

def main() -> int:
    if sys.argv[1:2] == ["vectors"] and len(sys.argv) == 3:
        from coffer_vectors import run_vectors

        return run_vectors(Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description="Reads coffer vaults; exit status 0 sound, 1 not sound, 2 refused.")
    parser.add_argument("vault", type=Path)
    for option in ("--key-file", "--passphrase-file"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--vault-id", type=bytes.fromhex)
    parser.add_argument("--head")
    parser.add_argument("verb", choices=["list", "ls", "restore", "verify", "dump-record"])
    parser.add_argument("arguments", nargs="*")
    o = parser.parse_args()
    if len(o.arguments) != {"ls": 1, "restore": 2, "dump-record": 1}.get(o.verb, 0):
        parser.error(f"wrong number of arguments for {o.verb}")
    try:
        store = Store(o.vault)
        header, whole = find_header(store, o.vault_id)
        log = Log(store, header)
        if o.verb == "verify":
            return run_verify(store, whole, log, o.head)
        key_file = read_key_file(o.key_file.read_bytes()) if o.key_file else None
        passphrase = o.passphrase_file.read_bytes().rstrip(b"\r\n") if o.passphrase_file else None
        keys = Keys(store, log, key_file, passphrase) if key_file or passphrase is not None else None
        if o.verb == "dump-record":
            return run_dump(store, log, keys, int(o.arguments[0]))
        if keys is None:
            raise Refused("--key-file or --passphrase-file is needed")
        vault = Vault(store, log, keys)
        run = {"list": run_list, "ls": run_ls, "restore": run_restore}[o.verb]
        status = run(vault, *o.arguments)
        for note in [f"record {n} {what}" for n, what in log.damage.items()] + vault.notes:
            print(f"note: {note}", file=sys.stderr)
        return status
    except (Refused, FormatError, OSError) as fault:
        print(f"coffer_reader: {fault}", file=sys.stderr)
        return 2 if isinstance(fault, Refused) else 1

if __name__ == "__main__":
    sys.exit(main())
