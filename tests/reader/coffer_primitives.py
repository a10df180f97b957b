"""What coffer_reader.py builds on: errors, CBOR, keys and seals, and small pieces that stand alone.

Written, like the reader, from docs/format.md alone; section numbers are its.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem import ML_KEM_768

TEXT_LEN_MAX, NESTING_MAX, KEY_FILE_LEN_MAX = 65_536, 16, 4_096

class FormatError(Exception):
    """Bytes that break a rule of the format, or do not authenticate."""

class Refused(Exception):
    """What was asked for cannot be done: a bad argument, a missing key, an unknown snapshot."""

def need(condition: bool, what: str) -> None:
    if not condition:
        raise FormatError(what)

def ascending(items: list[Any]) -> bool:
    return all(a < b for a, b in zip(items, items[1:]))

# ---- CBOR, section 1.1

def cbor_decode(data: bytes) -> Any:
    """The value that `data` encodes. There is one encoding for each value, so `data` must be what encoding yields."""
    value, end = _cbor_item(data, 0, 0)
    need(end == len(data) and cbor_encode(value) == data, "CBOR is not in its one encoding, or bytes are left over")
    return value

def _cbor_item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    need(at < len(data), "CBOR ends early")
    major, number = divmod(data[at], 32)
    at += 1
    if major > 5 or number > 27:
        need(major == 7 and number in (20, 21), "CBOR type outside the profile")
        return number == 21, at
    if number >= 24:
        width = 1 << (number - 24)
        number = int.from_bytes(data[at : at + width], "big")
        at += width
    if major < 2:
        need(major == 0 or number < 2**63, "CBOR integer below -2^63")
        return (number if major == 0 else -1 - number), at
    need(number <= len(data) - at, "CBOR ends early")
    if major == 2:
        return data[at : at + number], at + number
    if major == 3:
        need(number <= TEXT_LEN_MAX, "text is too long")
        try:
            return data[at : at + number].decode("utf-8"), at + number
        except UnicodeDecodeError:
            raise FormatError("text is not UTF-8") from None
    need(depth < NESTING_MAX, "CBOR is nested too deeply")
    items: list[Any] = []
    for _ in range(number if major == 4 else 2 * number):
        item, at = _cbor_item(data, at, depth + 1)
        items.append(item)
    if major == 4:
        return items, at
    need(all(map(UINT, items[::2])), "CBOR map key is not an unsigned integer")
    return dict(zip(items[::2], items[1::2])), at

def cbor_encode(value: Any) -> bytes:
    """The one encoding of `value` under the profile of section 1.1."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _cbor_head(0, value) if value >= 0 else _cbor_head(1, -1 - value)
    if isinstance(value, (bytes, str)):
        raw = value if isinstance(value, bytes) else value.encode()
        return _cbor_head(2 if raw is value else 3, len(raw)) + raw
    if isinstance(value, list):
        return _cbor_head(4, len(value)) + b"".join(map(cbor_encode, value))
    return _cbor_head(5, len(value)) + b"".join(cbor_encode(key) + cbor_encode(value[key]) for key in sorted(value))

def _cbor_head(major: int, number: int) -> bytes:
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << (8 * width):
            return bytes([major << 5 | info]) + number.to_bytes(width, "big")
    raise ValueError("integer beyond 64 bits")

# Tests for what a map key may hold; Python's bool is an int, so types are compared exactly.
Test = Callable[[Any], bool]
UINT: Test = lambda v: type(v) is int and v >= 0
INT: Test = lambda v: type(v) is int and v < 2**63
BOOL: Test = lambda v: type(v) is bool
BYTES: Test = lambda v: type(v) is bytes
TEXT: Test = lambda v: type(v) is str
LIST: Test = lambda v: type(v) is list
MAP: Test = lambda v: type(v) is dict

def exactly(size: int) -> Test:
    return lambda v: type(v) is bytes and len(v) == size

def at_most(size: int) -> Test:
    return lambda v: type(v) is bytes and len(v) <= size

def row(*tests: Test) -> Test:
    """An array with one element for each test."""
    return lambda v: type(v) is list and len(v) == len(tests) and all(test(item) for test, item in zip(tests, v))

def each(test: Test) -> Test:
    return lambda v: type(v) is list and all(map(test, v))

def names(size: int = 32) -> Test:
    """An array of byte strings of `size` bytes, ascending, none twice."""
    return lambda v: each(exactly(size))(v) and ascending(v)

ID = exactly(32)
DOMAIN = exactly(16)

class Fields:
    """Typed access to a CBOR map: `f(key, test)`; `opt` allows absence, but not an empty value (1.1)."""

    def __init__(self, value: Any, what: str) -> None:
        need(MAP(value), f"{what} is not a map")
        self.map: dict[int, Any] = value
        self.what = what

    def __call__(self, key: int, test: Test, opt: bool = False) -> Any:
        if opt and key not in self.map:
            return None
        value = self.map.get(key)
        need(test(value), f"{self.what}: key {key} is missing or malformed")
        need(not opt or isinstance(value, int) or len(value) > 0, f"{self.what}: key {key} is empty")
        return value

# ---- Keys and seals, sections 1, 4, 5

def H(data: bytes) -> bytes:
    return blake3(data).digest()

def KH(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()

def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    out = block = b""
    for count in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([count]), "sha256")
        out += block
    return out[:length]

def kdf(secret: bytes, label: str, context: bytes = b"", length: int = 32) -> bytes:
    """`KDF` of section 4, and `KDF64` with a length of 64."""
    return hkdf_expand(secret, b"coffer/1 " + label.encode() + b"\0" + context, length)

PACK, INDEX, RECORD, EPOCH = 1, 2, 3, 5  # object kinds, 5.1
P_FRAME, P_DIRECTORY, P_FOOTER, P_FRAME_PAGE, P_CHUNK_PAGE, P_BODY, P_WRAP, P_PREV_VK, P_PREV_RS = range(1, 10)

def nonce(purpose: int, ordinal: int) -> bytes:
    return struct.pack("<B7xI", purpose, ordinal)

def gcm_open(key: bytes, purpose: int, ordinal: int, sealed: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce(purpose, ordinal), sealed, aad)
    except (InvalidTag, ValueError):
        raise FormatError(f"sealed part of purpose {purpose}, ordinal {ordinal} does not open") from None

@dataclass(frozen=True)
class Seal:
    """A key with what all seals of one object have in common (5.1)."""

    key: bytes
    vault_id: bytes
    kind: int
    salt: bytes

    def aad(self, purpose: int, ordinal: int, extra: bytes = b"") -> bytes:
        head = struct.pack("<8s32sBBxxI32s", b"coffer/1", self.vault_id, self.kind, purpose, ordinal, self.salt)
        return head + extra

    def open(self, purpose: int, ordinal: int, sealed: bytes, extra: bytes = b"") -> bytes:
        return gcm_open(self.key, purpose, ordinal, sealed, self.aad(purpose, ordinal, extra))

class XWing:
    """An X-Wing secret key from its 32-byte seed (draft-connolly-cfrg-xwing-kem)."""

    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(96)
        ek, self._dk = ML_KEM_768.key_derive(expanded[:64])
        self._x = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._pk_x = self._x.public_key().public_bytes_raw()
        self.public: bytes = ek + self._pk_x

    def decapsulate(self, enc: bytes) -> bytes:
        ss_m = ML_KEM_768.decaps(self._dk, enc[:1088])
        try:
            ss_x = self._x.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        except ValueError:  # the library refuses an all-zero result, the draft does not
            ss_x = bytes(32)
        return hashlib.sha3_256(ss_m + ss_x + enc[1088:] + self._pk_x + b"\\.//^\\").digest()

HPKE_LABEL = b"HPKE-v1HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0xFFFF)

def hpke_keys(shared: bytes, psk: bytes, psk_id: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and commitment of section 5.2: the key schedule of RFC 9180 in mode psk and its two exports."""

    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt, HPKE_LABEL + label + ikm, "sha256")

    def expand(prk: bytes, label: bytes, context: bytes) -> bytes:
        return hkdf_expand(prk, b"\0\x20" + HPKE_LABEL + label + context, 32)

    context = b"\x01" + extract(b"", b"psk_id_hash", psk_id) + extract(b"", b"info_hash", info)
    exporter = expand(extract(shared, b"secret", psk), b"exp", context)
    return expand(exporter, b"sec", b"coffer/1 key"), expand(exporter, b"sec", b"coffer/1 commitment")

ED_P, ED_L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ED_ORDER_8 = ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
              "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
ED_LOW_ORDER_Y = {0, 1, ED_P - 1} | {int.from_bytes(bytes.fromhex(y), "little") for y in ED_ORDER_8}

def ed25519_valid(public: bytes, message: bytes, signature: bytes) -> bool:
    """Strict verification (8.1): canonical S and points, and neither the key nor R of small order."""
    ys = [int.from_bytes(point, "little") % 2**255 for point in (public, signature[:32])]
    if any(y >= ED_P or y in ED_LOW_ORDER_Y for y in ys) or int.from_bytes(signature[32:], "little") >= ED_L:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True

# ---- Pieces that stand alone, sections 2, 7.1, 10

class Store:
    """The objects of a vault in a local directory (section 2)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def size(self, name: str) -> int | None:
        return (self.root / name).stat().st_size if (self.root / name).is_file() else None

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        with open(self.root / name, "rb") as file:
            return os.pread(file.fileno(), length, offset)

    def read(self, name: str, limit: int) -> bytes | None:
        size = self.size(name)
        need(size is None or size <= limit, f"{name} is longer than {limit} bytes")
        return None if size is None else self.read_range(name, 0, size)

    def hash(self, name: str) -> bytes:
        return blake3().update_mmap(self.root / name).digest()

    def list(self, folder: str) -> list[str]:
        return sorted(os.listdir(self.root / folder)) if (self.root / folder).is_dir() else []

def read_key_file(data: bytes) -> bytes:
    """The secret in a key file (7.1)."""
    need(len(data) <= KEY_FILE_LEN_MAX, "key file is too long")
    lines = [line.strip() for line in data.split(b"\n")]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    need(len(lines) == 1 and lines[0].startswith(b"COFFER-KEY-1-"), "key file does not hold exactly one key")
    digits = lines[0].removeprefix(b"COFFER-KEY-1-")
    need(len(digits) == 72 and set(digits) <= set(b"0123456789abcdef"), "key file: malformed key")
    raw = bytes.fromhex(digits.decode())
    need(H(b"coffer/1 key file" + raw[:32])[:4] == raw[32:], "key file: wrong check digits")
    return raw[:32]

def padme(length: int) -> int:
    """The padded length of a pack (section 10)."""
    exponent = length.bit_length() - 1
    unit = 1 << (exponent - exponent.bit_length())
    return max(65_536, -(-length // unit) * unit)

def zstd_open(payload: bytes, plain_len: int) -> bytes:
    """The plain bytes of exactly one Zstandard frame; never more than `plain_len` bytes are made."""
    try:
        stated = zstandard.get_frame_parameters(payload)
        need(stated.dict_id == 0, "frame: needs a dictionary")
        need(stated.content_size in (plain_len, zstandard.CONTENTSIZE_UNKNOWN), "frame: wrong plain length")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=plain_len, allow_extra_data=False)
    except zstandard.ZstdError as fault:
        raise FormatError(f"frame: {fault}") from None
