"""Derived keys (section 4), AES-256-GCM (5.1) and what is sealed to the vault (5.2)."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from kyber_py.ml_kem import ML_KEM_768

from coffer_format.conventions import FormatError


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
