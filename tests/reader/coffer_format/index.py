"""Index segments (section 11)."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator
from typing import NamedTuple

from coffer_format.cbor import Map
from coffer_format.conventions import ascending, need
from coffer_format.limits import (
    FOOTER_LEN, INDEX_LEN_MAX, INDEX_PACKS_MAX, INDEX_ROWS_MAX, PACK_LEN_MAX, PACK_LEN_MIN, PAGE_LEN, SEAL_HEAD_LEN,
    TAG_LEN,
)
from coffer_format.seals import INDEX, P_CHUNK_PAGE, P_FRAME_PAGE, Seal, kdf


class Place(NamedTuple):
    """Where a chunk is: a frame of a pack, and a range of the frame's plain bytes (11)."""
    pack: bytes
    frame: int
    frame_offset: int
    sealed_len: int
    plain_len: int
    offset: int
    length: int


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
