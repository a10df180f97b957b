"""The header of a vault (section 6)."""

from __future__ import annotations

from coffer_format.cbor import ID, UINT, UINT32, Map, Table, cbor_decode, fields, integer, octets, row
from coffer_format.conventions import H, Refused, need
from coffer_format.limits import CHUNK_LEN_MAX, HEADER_LEN_MAX, MINOR_KNOWN

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
