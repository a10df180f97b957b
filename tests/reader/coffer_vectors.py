"""Checks the JSON test vectors of tests/vectors against this reader's own functions.

Every vector says in `expect` whether it is `ok` or how it has to be refused. Kinds of vectors without a check here,
and inputs that plain Python would take too long for, are counted and named as skipped, never passed over in silence.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from kyber_py.ml_kem import ML_KEM_768

from coffer_primitives import (
    ED_LOW_ORDER_Y, ED_P, H, KH, P_WRAP, Fields, FormatError, Seal, XWing, ed25519_valid, gcm_open, hpke_keys, kdf,
    nonce, read_key_file,
)
from coffer_reader import Slot

CHUNKER_INPUT_MAX = 2 << 20

class Vector:
    """One vector; `v["name"]` gives bytes for hexadecimal fields, `v.raw` what stands in the file."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def __getitem__(self, key: str) -> bytes:
        return bytes.fromhex(self.raw[key])

    def same(self, key: str, value: Any) -> None:
        """Fail, as a vector that is not what it says, unless field `key` holds `value`."""
        stated = self.raw[key]
        if stated != (value.hex() if isinstance(value, bytes) else value):
            raise AssertionError(f"{key} is {value.hex() if isinstance(value, bytes) else value}, not {stated}")

# Each check returns "ok" or the way in which the vector is to be refused, and raises AssertionError where a value
# that the vector states differs from what this reader computes.

def vault_key(v: Vector) -> str:
    vk, rs = v["vault key"], kdf(v["vault key"], "reader")
    seed = kdf(vk, "owner signing key")
    v.same("owner seed", seed)
    v.same("owner verifying key", Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())
    v.same("reader secret", rs)
    v.same("sealing seed", kdf(rs, "sealing key"))
    v.same("sealing public key", XWing(kdf(rs, "sealing key")).public)
    v.same("domain root", kdf(rs, "dedup domains"))
    v.same("key over the previous vault key", kdf(vk, "previous vault key"))
    v.same("key over the previous reader secret", kdf(rs, "previous reader secret"))
    return "ok"

def domain(v: Vector) -> str:
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
    keys = kdf(v[secret], label, context, 64)
    if keys[32:] != v["commitment"]:
        return "commitment mismatch"
    v.same(key, keys[:32])
    return "ok"

def seal(v: Vector) -> str:
    purpose, ordinal = v.raw["purpose"], v.raw["ordinal"]
    part = Seal(v["key"], v["vault id"], v.raw["object kind"], v["salt"])
    if v.raw["expect"] == "ok":
        v.same("aad", part.aad(purpose, ordinal, v["extra"]))
        v.same("nonce", nonce(purpose, ordinal))
    try:
        v.same("plaintext", part.open(purpose, ordinal, v["sealed"], v["extra"]))
    except FormatError:
        return "bad tag"
    return "ok"

def decapsulation(v: Vector) -> str:
    info = b"coffer/1 " + v.raw["sealed as"].encode() + b"\0" + v["vault id"] + v["salt"]
    shared = XWing(v["sealing seed"]).decapsulate(v["enc"])
    key, commitment = hpke_keys(shared, v["psk"], b"coffer/1 domain" + v["domain"], info)
    if commitment != v["commitment"]:
        return "commitment mismatch"
    v.same("key", key)
    return "ok"

def sealing_public_key(v: Vector) -> str:
    try:
        ML_KEM_768.encaps(v["sealing public key"][:1184])
    except ValueError:
        return "bad key"
    return "ok"

def wrapped_key(v: Vector) -> str:
    try:
        v.same("plaintext", gcm_open(v["kek"], P_WRAP, 0, v["wrapped key"], v["context"]))
    except FormatError:
        return "bad tag"
    return "ok"

def argon2id(v: Vector) -> str:
    slot = Slot.__new__(Slot)
    costs = {1: v.raw["memory in KiB"], 2: v.raw["passes"], 3: v.raw["lanes"], 4: v["salt"]}
    slot.kind, slot.params = 1, Fields(costs, "parameters")
    try:
        v.same("secret", slot.secret(None, v.raw["passphrase"].encode()))
    except FormatError:
        return "bad parameters"
    return "ok"

def key_file(v: Vector) -> str:
    try:
        secret = read_key_file(b"# a comment\n\n" + v.raw["line"].encode() + b" \r\n")
    except FormatError:
        return "bad checksum"
    v.same("secret", secret)
    v.same("checksum", H(b"coffer/1 key file" + secret)[:4])
    v.same("key id", kdf(secret, "key file id")[:8])
    return "ok"

def record_signature(v: Vector) -> str:
    key, message = v["verifying key"], b"coffer/1 log record\0" + v["public part"]
    if ed25519_valid(key, message, v["signature"]):
        return "ok"
    return "bad signature" if ed25519_key_fit(key) else "bad key"

def ed25519_key_fit(key: bytes) -> bool:
    """Whether a key is the canonical encoding of a point that is not of small order (RFC 8032, 5.1.3)."""
    y = int.from_bytes(key, "little") % 2**255
    u, w = (y * y - 1) % ED_P, (-121665 * pow(121666, -1, ED_P) * y * y + 1) % ED_P
    square = u * pow(w, -1, ED_P) % ED_P
    return y < ED_P and y not in ED_LOW_ORDER_Y and pow(square, (ED_P - 1) // 2, ED_P) == 1

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
}

# ---- The chunker, section 13; a reader needs none, so it stands here

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
    data = blake3(seed.encode()).digest(length=length)
    return data if mask == 0xFF else bytes(byte & mask for byte in data)

def chunker_input(vector: dict[str, Any]) -> bytes:
    how, length = vector["input"], vector["input_len"]
    if how["kind"] == "blake3-xof":
        return xof(how["seed"], length, int(how.get("and", "ff"), 16))
    unit = b"\0" if how["kind"] == "zeros" else bytes.fromhex(how["hex"])
    return (unit * (length // len(unit) + 1))[:length]

def accumulated(vector: dict[str, Any]) -> str:
    """Many small streams; the rule for their parameters stands in the file's `about`."""
    lengths = []
    for number in range(vector["streams"]):
        name = f"{vector['seed']} {number}"
        d = xof(name, 32)
        low16, bits, mask, high16, size = struct.unpack_from("<HBBHH", d, 16)
        low = 64 + low16 % 512
        data = xof(f"{name} input", size, (0xFF, 3, 1, 0x80)[mask % 4])
        lengths += pcc_lengths(data, d[:16], low, 6 + bits % 8, low + 256 + high16 % 8192)
    return blake3(b"".join(struct.pack("<Q", length) for length in lengths)).hexdigest()

# ---- Running them

def run_file(path: Path, counts: Counter[str]) -> None:
    content = json.loads(path.read_text())

    def note(name: str, failure: str | None) -> None:
        counts["failed" if failure else "passed"] += 1
        if failure:
            print(f"FAILED {path.name}: {name}: {failure}")

    def skip(name: str, why: str) -> None:
        counts["skipped"] += 1
        print(f"skipped {path.name}: {name}: {why}")

    for raw in content.get("vectors", []):
        check = CHECKS.get(raw.get("test", ""))
        if check is None:
            skip(raw.get("name", "?"), f"no check for tests of {raw.get('test')!r}")
            continue
        try:
            got = check(Vector(raw))
            note(raw["name"], None if got == raw["expect"] else f"{got}, not {raw['expect']}")
        except (AssertionError, FormatError, KeyError, ValueError) as fault:
            note(raw["name"], f"{type(fault).__name__}: {fault}")
    for raw in content.get("cuts", []):
        if raw["input_len"] > CHUNKER_INPUT_MAX:
            skip(raw["name"], f"input of {raw['input_len']} bytes")
            continue
        key = bytes.fromhex(raw["key"])
        got_cuts = pcc_lengths(chunker_input(raw), key, raw["min"], raw["bits"], raw["max"])
        note(raw["name"], None if got_cuts == raw["cuts"] else "other cuts")
    for raw in content.get("accumulated", []):
        note(raw["name"], None if accumulated(raw) == raw["blake3"] else "other cuts")
    if not {"vectors", "cuts", "accumulated"} & set(content):
        skip("the whole file", "a kind of file without checks")

def run_vectors(folder: Path) -> int:
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("*.json")):
        run_file(path, counts)
    print(", ".join(f"{counts[what]} {what}" for what in ("passed", "failed", "skipped")))
    return 1 if counts["failed"] or not counts["passed"] else 0
