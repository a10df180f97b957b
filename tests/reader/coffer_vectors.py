#!/usr/bin/env python3
"""Checks the JSON test vectors of tests/vectors against the functions of the second reader; tests/vectors/README.md.

    coffer_vectors.py DIR

A line for each file says how many vectors passed, failed and were skipped; every vector that failed or was skipped is
named. Skipped is only what plain Python would take too long for. Exit status: 0 if nothing failed.

What a reader of snapshots does not need, the chunker, the directories of packs and their padding, stands here.
"""

from __future__ import annotations

import hmac
import json
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding
from kyber_py.ml_kem import ML_KEM_768

from coffer_format import records
from coffer_format.cbor import Map, cbor_decode
from coffer_format.conventions import KH, FormatError, H, Refused, load, need
from coffer_format.header import parse_header
from coffer_format.index import index_places, open_index, parse_index_head, parse_pack_table
from coffer_format.limits import (
    CHUNK_LEN_MAX, FOOTER_LEN, FRAME_PLAIN_MAX, MINOR_KNOWN, PACK_LEN_MAX, PACK_LEN_MIN, PAGE_LEN, SEAL_HEAD_LEN,
    TAG_LEN,
)
from coffer_format.packs import DATA, META, parse_frame
from coffer_format.records import (
    ED_LOW_ORDER_Y, ED_P, ed25519_valid, parse_manifest, parse_record, signature_valid, unpad_body,
)
from coffer_format.replay import UNPROVEN, Log
from coffer_format.seals import (
    INDEX, P_CHUNK_PAGE, P_DIRECTORY, P_FOOTER, P_FRAME_PAGE, P_WRAP, Seal, XWing, gcm_open, hpke_keys, kdf,
)
from coffer_format.slots import parse_key_file, parse_slot, slot_secret, unwrap
from coffer_format.tree import parse_holes, parse_leaf, parse_node, parse_rows, parse_xattrs, path_valid
from coffer_format.vault import Vault

CHUNKER_INPUT_MAX = 2 << 20
PACK_FRAMES_MAX, PACK_CHUNKS_MAX = 65_536, 4_194_304
Raw = dict[str, Any]  # a vector as it stands in the file
Result = Iterator[tuple[str, str | None]]  # name of a vector, and what is wrong

class Mismatch(Exception):
    """A value that a vector states is not the one computed here."""

def unhex(text: str) -> bytes:
    """Bytes from hexadecimal digits, in which `(xx*n)` stands for the byte xx n times."""
    return bytes.fromhex(re.sub(r"\((..)\*(\d+)\)", lambda found: found[1] * int(found[2]), text))

def plain(value: Any) -> Any:
    """A value as JSON has it: bytes as hexadecimal digits, tuples as arrays."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value

def same(stated: Any, computed: Any, what: str = "value") -> None:
    """Fail unless a stated value is the computed one."""
    if stated != plain(computed):
        raise Mismatch(f"{what} is {str(plain(computed))[:300]}, not {str(stated)[:300]}")

def cbor(value: Any) -> bytes | None:
    """The encoding of a part of a map that stands in a vector as bytes."""
    return None if value is None else cbor2.dumps(value, canonical=True)

# ---- Packs: padding and directories, section 10

def padme(length: int) -> int:
    """The padded length of a pack."""
    exponent = max(length, 1).bit_length() - 1
    unit = 1 << (exponent - exponent.bit_length()) if exponent else 1
    return max(PACK_LEN_MIN, -(-length // unit) * unit)

def parse_footer(data: bytes, pack_len: int) -> Raw:
    """The plaintext of the footer of a pack."""
    need(len(data) == FOOTER_LEN - TAG_LEN and PACK_LEN_MIN <= pack_len <= PACK_LEN_MAX, "pack: bad length")
    offset, sealed_len, used, frames, zero = struct.unpack("<QQQII", data)
    need(SEAL_HEAD_LEN <= offset and offset + sealed_len + FOOTER_LEN == pack_len and zero == 0, "pack: bad footer")
    need(used + TAG_LEN <= sealed_len, "pack: directory does not fit its seal")
    return {"directory_offset": offset, "directory_sealed_len": sealed_len, "directory_plain_len": used,
            "frame_count": frames}

def parse_directory(data: bytes, directory_offset: int) -> Raw:
    """The plaintext of the directory of a pack, without its zeros."""
    need(len(data) >= 24, "directory is too short")
    frames, chunks, domain = struct.unpack_from("<II16s", data)
    need(frames <= PACK_FRAMES_MAX and chunks <= PACK_CHUNKS_MAX, "directory: beyond a limit")
    need(len(data) == 24 + 16 * frames + 36 * chunks, "directory does not fit its counts")
    rows = list(struct.iter_unpack("<32sI", data[24 + 16 * frames :]))
    need(all(1 <= length <= CHUNK_LEN_MAX for _, length in rows), "directory: bad chunk row")
    at, taken, found = SEAL_HEAD_LEN, 0, []
    for offset, sealed_len, plain_len, count in struct.iter_unpack("<IIII", data[24 : 24 + 16 * frames]):
        inside = rows[taken : taken + count]
        need(offset == at and sealed_len > TAG_LEN + 8 and plain_len <= FRAME_PLAIN_MAX, "directory: bad frame row")
        need(len(inside) == count > 0, "directory: frame without chunks, or with more than there are")
        need(sum(length for _, length in inside) == plain_len, "directory: chunks do not fill their frame")
        at, taken = at + sealed_len, taken + count
        found.append({"offset": offset, "sealed_len": sealed_len, "plain_len": plain_len, "chunks": inside})
    need(at == directory_offset and taken == chunks, "directory: frames or chunks left over")
    return {"domain": domain, "frames": found}

# ---- format.json: each check returns the value that follows from the bytes

def cbor_value(value: Any) -> Any:
    """A CBOR value in the notation of format.json."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"map": [[key, cbor_value(item)] for key, item in value.items()]}
    return [cbor_value(item) for item in value] if isinstance(value, list) else value

def renamed(found: Map, **names: str) -> Raw:
    """Fields under the names that the vectors give them; `names` maps those that differ."""
    return {names.get(key, key): value for key, value in vars(found).items()}

def header_value(data: bytes) -> Raw:
    """A header (6)."""
    value = vars(parse_header(data))
    value["sealing_key_hash"] = H(value.pop("sealing_key"))
    return value

def slot_value(data: bytes) -> Raw:
    """A key slot (7)."""
    value = renamed(parse_slot(data), vault_id="vault", created="created_s")
    del value["parameters"]
    value["context_hash"], value["name"] = H(value.pop("context")), H(data)
    return value

def record_value(data: bytes) -> Raw:
    """A log record (8.1)."""
    value = renamed(parse_record(data), vault_id="vault", added="segments_added", removed="segments_removed",
                    time="time_s")
    parts = {name: value.pop(name) for name in ("body", "body_hash", "domain", "epoch", "public", "signature")}
    body = {"hash": parts["body_hash"], "len": len(parts["body"]), "domain": parts["domain"], "epoch": parts["epoch"]}
    return {**value, "details": cbor(value["details"]), "body": body if parts["body"] else None}

def details_value(data: bytes, kind: int, number: int) -> Raw:
    """Details of a record (9)."""
    value = {name: held for name, held in vars(parse_details(kind, number, data)).items() if held is not None}
    if kind == 10:
        value["sealing_key_hash"] = H(value.pop("sealing_key"))
    return value

def parse_details(kind: int, number: int, data: bytes) -> Map:
    """Details from their bytes (9)."""
    return records.parse_details(kind, number, cbor_decode(data))

def path_value(data: bytes) -> None:
    """A path (12.1)."""
    need(path_valid(data), "bad path")

def entry_value(entry: Map) -> Raw:
    """A tree entry (12.1)."""
    value = renamed(entry, mtime="mtime_ns", target="link_target", link="hard_link", service="resource")
    inline, content, marks = (value.pop(name) for name in ("inline", "content", "marks"))
    if content is not None:
        content = {"level": content[0], "rows": parse_rows(content[1], 64)}
    return {**value, "resource": cbor(value["resource"]), "content": inline if content is None else content,
            "changed_while_read": bool(marks & 1)}

def node_value(data: bytes) -> list[Raw]:
    """A node of the tree (12)."""
    return [{"last_path": path, "chunk": [chunk_id, length], "entries": entries, "content_bytes": size}
            for path, chunk_id, length, entries, size in parse_node(data)]

def manifest_value(data: bytes) -> Raw:
    """A manifest (9.1)."""
    value = vars(parse_manifest(data))
    done, (root, length, height) = value.pop("completeness"), value["root"]
    return {**value, "root": {"chunk": [root, length], "height": height}, "facts": cbor(value["facts"]),
            "statistics": list(vars(value["statistics"]).values()), "errors": done.errors, "error_count": done.count}

def segment_head_value(data: bytes, object_len: int) -> Raw:
    """The head of an index segment (11)."""
    value = vars(parse_index_head(data, object_len))
    tables = value.pop("tables")
    for name, purpose in (("frame_table", P_FRAME_PAGE), ("chunk_table", P_CHUNK_PAGE)):
        offset, plain_len = tables[purpose]
        value[name] = {"offset": offset, "plain_len": plain_len, "pages": -(-plain_len // PAGE_LEN)}
    counts = {"pack_count": value.pop("packs"), "frame_count": value.pop("frames")}
    return {**value, **counts, "chunk_count": tables[P_CHUNK_PAGE][1] // 32}

FORMAT: dict[str, Callable[[bytes, Raw], Any]] = {
    "cbor": lambda data, v: cbor_value(cbor_decode(data)),
    "header": lambda data, v: header_value(data),
    "slot": lambda data, v: slot_value(data),
    "record": lambda data, v: record_value(data),
    "details": lambda data, v: details_value(data, v["kind"], v["record_number"]),
    "body_plain": lambda data, v: {"cbor": unpad_body(data)},
    "path": lambda data, v: path_value(data),
    "leaf": lambda data, v: [entry_value(entry) for entry in parse_leaf(data)],
    "node": lambda data, v: node_value(data),
    "content_rows": lambda data, v: parse_rows(data, v["row_count_max"]),
    "holes": lambda data, v: parse_holes(data, v["size"]),
    "xattrs": lambda data, v: parse_xattrs(data),
    "manifest": lambda data, v: manifest_value(data),
    "frame_head": lambda data, v: dict(zip(("codec", "kind", "plain_len", "payload"), parse_frame(data))),
    "directory": lambda data, v: parse_directory(data, v["directory_offset"]),
    "footer": lambda data, v: parse_footer(data, v["pack_len"]),
    "segment_head": lambda data, v: segment_head_value(data, v["object_len"]),
    "pack_table": lambda data, v: [{"name": name, "len": length}
                                   for name, length in parse_pack_table(data, v["pack_count"])],
    "padded_len": lambda data, v: padme(v["len"]),
}

def check_format(v: Raw) -> str | None:
    """One vector of format.json."""
    try:
        value = FORMAT[v["what"]](unhex(v.get("hex", "")), v)
    except (FormatError, Refused) as fault:
        return None if v["expect"] == "error" else f"refused: {fault}"
    if v["expect"] != "ok":
        return f"accepted, although {v['rule']}"
    same(v["value"], value)
    return None

# ---- replay.json

def canonical_state(log: Log, checkpoints: list[int]) -> bytes | None:
    """The canonical state at the end of a log (9.19), given the numbers of effective checkpoints; None on damage."""
    last = len(log.outcomes) - 1
    if last < 0 or log.damage or log.outcomes[last].chain is None:
        return None
    epochs = [[0, log.epochs[0].sealing_key, log.epochs[0].owner_key, b"", b"", True]]
    epochs += [[d.number, d.sealing_key, d.owner_key, d.previous_vault_key, d.previous_reader_secret, d.new_domains]
               for d in log.epochs[1:]]
    segments = lambda table: [[name, s.length, s.domain, s.number] for name, s in sorted(table.items())]
    return cbor2.dumps({
        1: last, 2: log.outcomes[last].chain, 3: log.term, 4: log.home, 5: log.minor, 6: epochs, 7: log.slots,
        8: [[key, role.role, sorted(role.domains), key in log.revoked] for key, role in sorted(log.roles.items())],
        9: segments(log.live), 10: segments(log.removed), 11: [list(orphan) for orphan in sorted(log.condemned)],
        12: sorted(log.swept_segments), 13: sorted(log.swept_packs),
        14: [[key, s.number, s.record.time, s.record.signer, s.record.body_hash, s.record.domain, s.record.epoch,
              key in log.forgotten, key in log.held] for key, s in log.snapshots.items()],
        15: log.outcomes[last].reason not in UNPROVEN, 16: log.last_prune, 17: max(checkpoints, default=0),
        **({} if log.last_policy is None else {18: log.last_policy}),
    })

def check_replay(v: Raw) -> str | None:
    """One scenario of replay.json: outcomes of all records, and the state at the end (8.2)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "log").mkdir()
        for number, record in enumerate(v["records"]):
            if record["hex"] is not None:
                (root / f"log/{number:012d}").write_bytes(unhex(record["hex"]))
        header = parse_header(unhex(v["header"]))
        log = Log(root, header)
    same(v["vault_id"], header.vault_id, "vault id")
    same([record["outcome"] for record in v["records"]], [o.reason or "effective" for o in log.outcomes], "outcomes")
    last = log.outcomes[-1].chain
    state = {
        "next": len(log.outcomes), "head": None if last is None else f"{len(log.outcomes) - 1}:{last.hex()}",
        "term": log.term, "home": log.home, "minor": log.minor,
        "needs_minor": log.minor if log.minor > MINOR_KNOWN else None,
        "owner_keys": [epoch.owner_key for epoch in log.epochs], "slots": log.slots,
        "signers": [{"key": key, "role": role.role, "domains": sorted(role.domains), "revoked": key in log.revoked}
                    for key, role in sorted(log.roles.items())],
        "live": [{"name": name, "len": s.length, "domain": s.domain, "added_by": s.number}
                 for name, s in sorted(log.live.items())],
        "removed": sorted(log.removed), "orphans": sorted(log.condemned),
        "swept_segments": sorted(log.swept_segments), "swept_packs": sorted(log.swept_packs),
        "snapshots": [{"id": key, "record": s.number, "forgotten": key in log.forgotten, "held": key in log.held}
                      for key, s in log.snapshots.items()],
        "damaged": [{"record": n, "claimed_by": claim.signer} for n, claim in sorted(log.damage.items())],
    }
    checkpoints = [number for number, record in enumerate(v["records"]) if record["outcome"] == "effective"
                   and parse_record(unhex(record["hex"])).kind == 19]
    stated, computed = v["state"].pop("canonical"), canonical_state(log, checkpoints)
    same(None if stated is None else unhex(stated).hex(), computed, "canonical state")
    for name in v["state"] | state:
        same(v["state"].get(name, "not stated"), state.get(name), name)
    return None

# ---- objects.json: each check returns what is found

@cache
def xwing(reader_secret: bytes) -> XWing:
    """The X-Wing key of a reader secret; making one is slow here."""
    return XWing(kdf(reader_secret, "sealing key"))

def opened_vault(root: Path, keys: Raw) -> Vault:
    """A vault of epoch 0 without a log, for keys that did not come from a slot."""
    vault, secret = Vault.__new__(Vault), unhex(keys["reader_secret"])
    vault.root, vault.log = root, Map(vault_id=unhex(keys["vault_id"]))
    vault._rs, vault._sealing = {0: secret}, {0: xwing(secret)}
    return vault

def pack_object(vault: Vault, path: Path, domain: bytes, v: Raw) -> Raw:
    """Head, footer and directory of a pack (10)."""
    data = path.read_bytes()
    seal = vault._pack_seal(path, domain)
    footer = parse_footer(seal.open(P_FOOTER, 0, data[-FOOTER_LEN:]), len(data))
    start, used = footer["directory_offset"], footer["directory_plain_len"]
    directory = seal.open(P_DIRECTORY, 0, data[start:-FOOTER_LEN])
    found = parse_directory(directory[:used], start)
    need(found["domain"] == domain and len(found["frames"]) == footer["frame_count"], "pack: another directory")
    need(not any(directory[used:]) and len(data) == padme(len(data) - len(directory) + used), "pack: wrong padding")
    return {**found, "directory_offset": start, "directory_plain_len": used}

def frame_object(vault: Vault, path: Path, domain: bytes, v: Raw) -> Raw:
    """A frame, and the ids of its chunks (10)."""
    frame = v["frame"]
    kind, data = vault._frame(domain, bytes.fromhex(path.name), frame["number"], frame["offset"], frame["sealed_len"])
    need(len(data) == frame["plain_len"], "frame: wrong plain length")
    need(kind == {"data": DATA, "meta": META}[frame["kind"]], "frame: wrong kind")
    key, at = vault.domain_key(domain, f"{frame['kind']} chunk id"), 0
    for chunk_id, length in frame["chunks"]:
        need(KH(key, data[at : at + length]).hex() == chunk_id, "frame: wrong chunk id")
        at += length
    need(at == len(data), "frame: chunk ids do not fill it")
    return {"plain": data}

def segment_object(vault: Vault, path: Path, domain: bytes, v: Raw) -> Raw:
    """Both tables of an index segment (11)."""
    index = open_index(path.read_bytes(), vault.log.vault_id, vault.domain_key(domain, "index"))
    need(index.domain == domain, "segment: a commitment to another domain than it states")
    places = list(index_places(index))
    need(len(places) == index.tables[P_CHUNK_PAGE][1] // 32, "segment: not a place for each row")
    return {"domain": index.domain, "packs": index.pack_table, "frame_table": index.frame_table,
            "chunk_table": index.chunk_table}

def page_object(vault: Vault, path: Path, domain: bytes, v: Raw) -> Raw:
    """One page of an index segment (11)."""
    data, page = path.read_bytes(), v["page"]
    head = parse_index_head(data, len(data))
    keys = kdf(vault.domain_key(domain, "index"), "index segment", vault.log.vault_id + head.salt, 64)
    seal = Seal(keys[:32], vault.log.vault_id, INDEX, head.salt)
    purpose = {"frames": P_FRAME_PAGE, "chunks": P_CHUNK_PAGE}[page["table"]]
    sealed = data[page["offset"] : page["offset"] + page["sealed_len"]]
    return {"plain_hash": H(seal.open(purpose, page["number"], sealed))}

def record_object(vault: Vault, path: Path, domain: bytes, v: Raw) -> Raw:
    """Signature and body of a record (8.1); its domain is what key 13 says unless the vector gives another."""
    record = parse_record(path.read_bytes())
    need(signature_valid(record), "record: wrong signature")
    need(record.body_hash == H(record.body), "record: wrong body hash")
    found = {"chain": record.chain, "number": record.number, "signer": record.signer, "vault_id": record.vault_id,
             "domain": record.domain, "epoch": record.epoch}
    record.domain = domain if "domain" in v else record.domain
    vault.log.vault_id = record.vault_id
    return {**found, "body": vault.open_body(record)}

OBJECTS = {"pack": pack_object, "frame": frame_object, "segment": segment_object, "page": page_object,
           "record": record_object}
# Words of this reader's faults for ways to end that the file names; the others end in any way.
FAULTS = {"name": "damaged", "commitment": "commitment", "seal": "does not open", "signature": "wrong signature",
          "body hash": "wrong body hash", "chunk id": "chunk id", "kind": "wrong kind"}

def check_object(v: Raw, keys: Raw, objects: dict[str, bytes]) -> str | None:
    """One vector of objects.json."""
    data = bytearray(objects[v["object"]])
    if "flip" in v:
        data[v["flip"][0]] ^= v["flip"][1]
    data = bytes(data[: v.get("cut", len(data))]) + unhex(v.get("append", ""))
    keys = {**keys, **{name: v[name] for name in ("vault_id", "reader_secret", "domain") if name in v}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packs" / H(data).hex()[:2] / H(data).hex()
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        vault = opened_vault(Path(folder), keys)
        try:
            if "object_name" in v:
                load(path, len(data), unhex(v["object_name"]))
            value = OBJECTS[v["what"]](vault, path, unhex(keys["domain"]), v)
        except FormatError as fault:
            fits = v["expect"] != "ok" and FAULTS.get(v["expect"], "") in str(fault)
            return None if fits else f"refused: {fault}, not {v['expect']}"
    if v["expect"] != "ok":
        return f"accepted, not {v['expect']}"
    same(v["value"], value)
    return None

# ---- crypto.json and slots.json: each check returns "ok" or the way in which the vector is refused

class Vector:
    """One vector; `v["name"]` gives bytes for hexadecimal fields, `v.raw` what stands in the file."""
    def __init__(self, raw: Raw) -> None:
        self.raw = raw

    def __getitem__(self, key: str) -> bytes:
        return bytes.fromhex(self.raw[key])

    def same(self, key: str, value: Any) -> None:
        """Fail unless field `key` holds `value`."""
        same(self.raw[key], value, key)

def vault_key(v: Vector) -> str:
    """The tree of keys below a vault key (4)."""
    vk, rs = v["vault key"], kdf(v["vault key"], "reader")
    seed = kdf(vk, "owner signing key")
    v.same("owner seed", seed)
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    v.same("owner verifying key", public)
    v.same("reader secret", rs)
    v.same("sealing seed", kdf(rs, "sealing key"))
    v.same("sealing public key", xwing(rs).public)
    v.same("domain root", kdf(rs, "dedup domains"))
    v.same("key over the previous vault key", kdf(vk, "previous vault key"))
    v.same("key over the previous reader secret", kdf(rs, "previous reader secret"))
    return "ok"

def domain(v: Vector) -> str:
    """The keys of a dedup domain (4), chunk ids (10) and the numbers that cut the tree (12)."""
    root, name = kdf(v["reader secret"], "dedup domains"), v["domain"]
    keys = {label: kdf(root, label, name) for label in ("data chunk id", "meta chunk id", "tree", "index", "psk")}
    v.same("data id key", keys["data chunk id"])
    v.same("meta id key", keys["meta chunk id"])
    v.same("chunker key", kdf(root, "chunker", name)[:16])
    v.same("tree key", keys["tree"])
    v.same("index key", keys["index"])
    v.same("psk", keys["psk"])
    v.same("data chunk id", KH(keys["data chunk id"], v["chunk"]))
    v.same("meta chunk id", KH(keys["meta chunk id"], v["chunk"]))
    for height, field in ((0, "leaf number"), (1, "node number at height 1")):
        v.same(field, int.from_bytes(KH(keys["tree"], bytes([height]) + v["path"])[:4], "little"))
    return "ok"

def two_keys(v: Vector, secret: str, label: str, context: bytes, key: str) -> str:
    """A key and its commitment from `KDF64`."""
    keys = kdf(v[secret], label, context, 64)
    if keys[32:] != v["commitment"]:
        return "commitment mismatch"
    v.same(key, keys[:32])
    return "ok"

def seal(v: Vector) -> str:
    """A seal (5.1)."""
    part = Seal(v["key"], v["vault id"], v.raw["object kind"], v["salt"])
    try:
        v.same("plaintext", part.open(v.raw["purpose"], v.raw["ordinal"], v["sealed"], v["extra"]))
    except FormatError:
        return "bad tag"
    return "ok"

def decapsulation(v: Vector) -> str:
    """What is sealed to the vault (5.2)."""
    info = b"coffer/1 " + v.raw["sealed as"].encode() + b"\0" + v["vault id"] + v["salt"]
    shared = XWing(v["sealing seed"]).decapsulate(v["enc"])
    key, commitment = hpke_keys(shared, v["psk"], b"coffer/1 domain" + v["domain"], info)
    if commitment != v["commitment"]:
        return "commitment mismatch"
    v.same("key", key)
    return "ok"

def sealing_public_key(v: Vector) -> str:
    """Whether a writer can seal to a key (5.2)."""
    try:
        ML_KEM_768.encaps(v["sealing public key"][:1184])
    except ValueError:
        return "bad key"
    return "ok"

def wrapped_key(v: Vector) -> str:
    """Key 10 of a slot (7)."""
    try:
        v.same("plaintext", gcm_open(v["kek"], P_WRAP, 0, v["wrapped key"], v["context"]))
    except FormatError:
        return "bad tag"
    return "ok"

def argon2id(v: Vector) -> str:
    """The secret of a passphrase (7)."""
    costs = Map(memory=v.raw["memory in KiB"], passes=v.raw["passes"], lanes=v.raw["lanes"], salt=v["salt"])
    try:
        v.same("secret", slot_secret(Map(kind=1, parameters=costs), None, v.raw["passphrase"].encode()))
    except FormatError:
        return "bad parameters"
    return "ok"

def key_file(v: Vector) -> str:
    """The line of a key file (7.1)."""
    try:
        secret = parse_key_file(b"# a comment\n\n" + v.raw["line"].encode() + b" \r\n")
    except FormatError:
        return "bad checksum"
    v.same("secret", secret)
    v.same("checksum", H(b"coffer/1 key file" + secret)[:4])
    v.same("key id", kdf(secret, "key file id")[:8])
    return "ok"

def record_signature(v: Vector) -> str:
    """A signature and its key (8.1)."""
    key, message = v["verifying key"], b"coffer/1 log record\0" + v["public part"]
    if ed25519_valid(key, message, v["signature"]):
        return "ok"
    y = int.from_bytes(key, "little") % 2**255
    u, w = (y * y - 1) % ED_P, (-121665 * pow(121666, -1, ED_P) * y * y + 1) % ED_P
    on_curve = pow(u * pow(w, -1, ED_P) % ED_P, (ED_P - 1) // 2, ED_P) == 1  # RFC 8032, 5.1.3
    return "bad signature" if y < ED_P and y not in ED_LOW_ORDER_Y and on_curve else "bad key"

def by_token(slot: Map, cipher_key: bytes, mac_key: bytes) -> bytes:
    """The key in a slot of kind 5, with the keys that the token would keep (7)."""
    p, bound = slot.parameters, H(slot.context)
    shape = [part and len(part) for part in (p.iv, p.mac, p.salt, slot.wrapped)]
    if p.mechanism == 0x210B:
        need(shape == [None, None, 16, 72] and not mac_key, "token slot: not of AES-KWP")
        try:
            plain = aes_key_unwrap_with_padding(cipher_key, slot.wrapped)
        except InvalidUnwrap:
            raise FormatError("token slot: wrong check value") from None
    elif p.mechanism == 0x1087:
        need(shape == [12, None, None, 80] and not mac_key, "token slot: not of AES-GCM")
        try:
            plain = AESGCM(cipher_key).decrypt(p.iv, slot.wrapped, bound)
        except InvalidTag:
            raise FormatError("token slot: wrong tag") from None
    else:
        need(p.mechanism == 0x1085 and shape == [16, 32, None, 80], "token slot: not of AES-CBC")
        mac = hmac.digest(mac_key, p.iv + slot.wrapped + bound, "sha256")
        need(hmac.compare_digest(mac, p.mac), "token slot: wrong MAC")
        decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(p.iv)).decryptor()
        plain = decryptor.update(slot.wrapped) + decryptor.finalize()
        need(plain[64:] == bytes([16]) * 16, "token slot: bad padding")
        plain = plain[:64]
    need(len(plain) == 64 and plain[32:] == bound, "token slot: the key is of another one")
    return plain[:32]

def key_slot(v: Vector) -> str:
    """A whole slot, from key file or passphrase to the key in it (7); it may be refused at any step."""
    key_line, passphrase = v.raw.get("key file line"), v.raw.get("passphrase")
    try:
        slot = parse_slot(v["slot"])
        need(slot.vault_id == v["vault id"], "slot of another vault")
        secret = slot_secret(slot, key_line and parse_key_file(key_line.encode()),
                                    passphrase and passphrase.encode())
        if slot.kind == 6 and (lines := v.raw.get("share lines")):
            secret = joined(slot, lines)
        if slot.kind == 5 and (cipher_key := v.raw.get("token cipher key")):
            key = by_token(slot, bytes.fromhex(cipher_key), bytes.fromhex(v.raw.get("token mac key", "")))
        else:
            need(secret is not None, "slot of another kind or key")
            key = unwrap(slot, secret or b"")
    except FormatError:
        return "ok, but refused" if v.raw["expect"] == "ok" else v.raw["expect"]
    if v.raw["expect"] == "ok":
        for name, value in (("key", key), ("context", slot.context), ("slot id", H(v["slot"])), ("epoch", slot.epoch),
                            ("purpose", slot.purpose)):
            v.same(name, value)
    return "ok"

def share(data: bytes) -> tuple[bytes, int, int, int, bytes]:
    """Set id, threshold, count, number and value of the share in a text (7.2)."""
    need(len(data) <= 16384, "share is too long")
    lines = [line.strip(b" \t\r\f").upper() for line in data.split(b"\n")]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    found = re.fullmatch(rb"COFFER-SHARE-1-([0-9A-F -]*)", b"\n".join(lines))
    need(found is not None, "not one share")
    digits = re.sub(rb"[ -]", b"", found[1])
    need(len(digits) == 94, "not 94 digits")
    raw = bytes.fromhex(digits.decode())
    need(H(b"coffer/1 share" + raw[:43])[:4] == raw[43:], "wrong check digits")
    need(2 <= raw[8] <= raw[9] <= 64 and 1 <= raw[10] <= raw[9], "share of a set that cannot be")
    return raw[:8], raw[8], raw[9], raw[10], raw[11:43]

def times(a: int, b: int) -> int:
    """The product in GF(2^8) with the polynomial 0x11d."""
    product = 0
    for bit in range(8):
        product ^= (a << bit) if b >> bit & 1 else 0
    for bit in range(14, 7, -1):
        product ^= (0x11d << bit - 8) if product >> bit & 1 else 0
    return product

def joined(slot: Map, lines: str) -> bytes | None:
    """The secret of a slot of kind 6 from as many good shares as it needs (7.2)."""
    p, good = slot.parameters, dict[int, bytes]()
    for set_id, threshold, count, number, value in map(share, lines.encode().split(b"\n")):
        need((set_id, threshold, count) == (p.set_id, p.threshold, p.count), "shares of another set")
        if kdf(value, "share digest", set_id + bytes([number]))[:16] == p.digests[16 * number - 16:16 * number]:
            good[number] = value
    chosen = sorted(good)[:p.threshold]
    need(len(chosen) == p.threshold, "too few shares")
    secret = bytearray(32)
    for i in chosen:
        weight = 1
        for j in chosen:
            if j != i:
                inverse = next(a for a in range(1, 256) if times(a, i ^ j) == 1)
                weight = times(weight, times(j, inverse))
        secret = bytearray(a ^ times(b, weight) for a, b in zip(secret, good[i]))
    return bytes(secret)

def share_text(v: Vector) -> str:
    """A whole text with a share (7.2); it may be refused at any step."""
    try:
        set_id, threshold, count, number, _ = share(v["text"])
    except FormatError:
        return "ok, but refused" if v.raw["expect"] == "ok" else v.raw["expect"]
    if v.raw["expect"] == "ok":
        v.same("set id", set_id)
        same([threshold, count, number], [v.raw[name] for name in ("threshold", "count", "number")])
    return "ok"

def writer_text(v: Vector) -> str:
    """A whole text with a writer credential (7.3); it may be refused at any step."""
    try:
        need(len(v["text"]) <= 4096, "credential is too long")
        lines = [line.strip(b" \t\r\f") for line in v["text"].split(b"\n")]
        found = re.fullmatch(rb"COFFER-WRITER-1-((?:[0-9a-f]{2})+)",
                             b"\n".join(line for line in lines if line and not line.startswith(b"#")))
        need(found is not None, "not one credential")
        raw = bytes.fromhex(found[1].decode())
        need(257 <= len(raw) - 4 <= 512, "credential of another length")
        need(H(b"coffer/1 writer" + raw[:-4])[:4] == raw[-4:], "wrong check digits")
        try:
            name = raw[256:-4].decode()
        except UnicodeDecodeError:
            raise FormatError("name is not UTF-8") from None
        need(not any(ord(c) < 0x20 or 0x7f <= ord(c) < 0xa0 for c in name), "name with control characters")
    except FormatError:
        return "ok, but refused" if v.raw["expect"] == "ok" else v.raw["expect"]
    if v.raw["expect"] == "ok":
        same(v.raw["writer line"], f"COFFER-WRITER-1-{raw.hex()}")
        same(v.raw["writer"], name)
        fields = (("vault id", 0, 32), ("seed", 32, 32), ("domain", 64, 16), ("data id key", 80, 32), ("meta id key", 112, 32),
                  ("chunker key", 144, 16), ("tree key", 160, 32), ("index key", 192, 32), ("psk", 224, 32))
        for field, at, length in fields:
            v.same(field, raw[at:at + length])
    return "ok"

def key_file_text(v: Vector) -> str:
    """A whole key file (7.1); it may be refused at any step."""
    try:
        secret = parse_key_file(v["text"])
    except FormatError:
        return "ok, but refused" if v.raw["expect"] == "ok" else v.raw["expect"]
    if v.raw["expect"] == "ok":
        same(v.raw["key file line"], f"COFFER-KEY-1-{(secret + H(b'coffer/1 key file' + secret)[:4]).hex()}")
        v.same("key id", kdf(secret, "key file id")[:8])
    return "ok"

CHECKS: dict[str, Callable[[Vector], str]] = {
    "vault key": vault_key,
    "domain": domain,
    "index segment key": lambda v: two_keys(v, "index key", "index segment", v["vault id"] + v["salt"], "key"),
    "seal": seal,
    "decapsulation": decapsulation,
    "sealing public key": sealing_public_key,
    "slot keys": lambda v: two_keys(v, "secret", "slot", v["salt"] + v["vault id"], "kek"),
    "wrapped key": wrapped_key,
    "argon2id": argon2id,
    "key file": key_file,
    "record signature": record_signature,
    "key slot": key_slot,
    "key file text": key_file_text,
    "share text": share_text,
    "writer text": writer_text,
}

def check_keys(v: Raw) -> str | None:
    """One vector of crypto.json or slots.json."""
    got = CHECKS[v["test"]](Vector(v))
    return None if got == v["expect"] else f"{got}, not {v['expect']}"

# ---- chunker.json: the chunker, section 13

def pcc_lengths(data: bytes, key: bytes, low: int, bits: int, high: int) -> list[int]:
    """Lengths of the chunks of a stream."""
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
    thresholds, rest = [], 2**64
    for _ in range(256):
        rest -= rest >> bits
        thresholds.append(2**64 - rest)

    def natural(at: int) -> bool:
        early, late = struct.unpack_from("<II", data, at - 7)
        return ((early * 0x9E3779B1 ^ late * 0x85EBCA77) & 0xFFFFFFFF) < 1 << 27

    def chunk_end(start: int) -> int:
        limit = min(start + high, len(data))
        cell = start + low
        while cell < limit:
            end = min(cell + 256, limit)  # exclusive
            end = next((at + 1 for at in range(cell + 31, end) if natural(at)), end)
            encryptor = cipher.encryptor()
            u = int.from_bytes(encryptor.update(data[end - 64 : end])[48:56], "little")
            for place in range(end - cell):
                if u < thresholds[place]:
                    return cell + place + 1
            cell = end
        return limit

    lengths, start = [], 0
    while start < len(data):
        lengths.append(chunk_end(start) - start)
        start += lengths[-1]
    return lengths

def xof(seed: str, length: int, mask: int = 0xFF) -> bytes:
    """Extended output of BLAKE3, each byte ANDed with the mask."""
    data = blake3(seed.encode()).digest(length=length)
    return data if mask == 0xFF else bytes(byte & mask for byte in data)

def check_cuts(v: Raw) -> str | None:
    """Where one stream is cut."""
    how, length = v["input"], v["input_len"]
    if how["kind"] == "blake3-xof":
        data = xof(how["seed"], length, int(how.get("and", "ff"), 16))
    else:
        unit = b"\0" if how["kind"] == "zeros" else bytes.fromhex(how["hex"])
        data = (unit * (length // len(unit) + 1))[:length]
    same(v["cuts"], pcc_lengths(data, bytes.fromhex(v["key"]), v["min"], v["bits"], v["max"]), "cuts")
    return None

def check_accumulated(v: Raw) -> str | None:
    """Many small streams; the rule for their parameters stands in the file's `about`."""
    lengths = []
    for number in range(v["streams"]):
        name = f"{v['seed']} {number}"
        d = xof(name, 32)
        low16, bits, mask, high16, size = struct.unpack_from("<HBBHH", d, 16)
        low = 64 + low16 % 512
        data = xof(f"{name} input", size, (0xFF, 3, 1, 0x80)[mask % 4])
        lengths += pcc_lengths(data, d[:16], low, 6 + bits % 8, low + 256 + high16 % 8192)
    same(v["blake3"], blake3(b"".join(struct.pack("<Q", length) for length in lengths)).digest(), "hash of cuts")
    return None

# ---- Running them

def checks_of(content: Raw) -> Iterator[tuple[Raw, Callable[[Raw], str | None] | None]]:
    """The vectors of a file with their checks, None for those that are skipped."""
    objects = {item["name"]: unhex(item["hex"]) for item in content.get("objects", [])}
    for v in content.get("vectors", []):
        if "objects" in content:
            yield v, lambda v: check_object(v, content["keys"], objects)
        else:
            yield v, check_keys if "test" in v else check_format
    for v in content.get("scenarios", []):
        yield v, check_replay
    for v in content.get("cuts", []):
        yield v, check_cuts if v["input_len"] <= CHUNKER_INPUT_MAX else None
    for v in content.get("accumulated", []):
        yield v, check_accumulated

def run_file(path: Path) -> bool:
    """Check one file, and say how that went; whether nothing failed."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for v, check in checks_of(json.loads(path.read_text())):
        if check is None:
            counts["skipped"] += 1
            print(f"{path.name}: skipped {v['name']!r}: {v['input_len']} bytes are too many for Python")
            continue
        try:
            failure = check(v)
        except (Mismatch, FormatError, Refused, LookupError, ValueError, TypeError, struct.error) as fault:
            failure = f"{type(fault).__name__}: {fault}"
        counts["failed" if failure else "passed"] += 1
        if failure:
            print(f"{path.name}: FAILED {v.get('what', '')} {v['name']!r}: {failure}")
    print(f"{path.name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    return counts["failed"] == 0 and counts["passed"] > 0

def main() -> int:
    """Check all files of a folder; the exit status."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    paths = sorted(Path(sys.argv[1]).glob("*.json"))
    return 0 if all([run_file(path) for path in paths]) and paths else 1

if __name__ == "__main__":
    sys.exit(main())
