"""Frames of packs (section 10). Directories of packs are not read: index segments say where chunks are."""

from __future__ import annotations

import struct

import zstandard

from coffer_format.conventions import FormatError, need
from coffer_format.limits import FRAME_PLAIN_MAX

DATA, META = 1, 2


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
