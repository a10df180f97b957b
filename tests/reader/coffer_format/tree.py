"""The tree of a snapshot (section 12): nodes and leaves, entries (12.1) and content lists (12.3)."""

from __future__ import annotations

import stat
import struct
from typing import Any

from coffer_format.cbor import (
    BYTES, ID, INT, MAP, UINT, UINT32, Map, Table, Test, cbor_decode, each, fields, integer, octets, row,
)
from coffer_format.conventions import ascending, need
from coffer_format.limits import (
    BLOB_INLINE_MAX, CHUNK_LEN_MAX, COMPONENT_LEN_MAX, CONTENT_LEVEL_MAX, ENTRY_ROWS_MAX, INLINE_LEN_MAX,
    LINK_TARGET_MAX, LIST_MAX, OWNER_NAME_MAX, PATH_LEN_MAX, TREE_LEN_MAX,
)

FILE, DIRECTORY, SYMLINK, CHARACTER, BLOCK, RESOURCE = 1, 2, 3, 6, 7, 8
NODE_TYPES = {4: stat.S_IFIFO, 5: stat.S_IFSOCK, CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK}
KIND_NAMES = ("", "file", "dir", "symlink", "fifo", "socket", "char", "block", "resource")


def path_valid(path: Any) -> bool:
    """Whether `path` keeps the rules for paths (12.1)."""
    fine = octets(0, PATH_LEN_MAX)(path) and b"\0" not in path
    parts = path.split(b"/") if fine and path else []
    return fine and all(0 < len(part) <= COMPONENT_LEN_MAX and part not in (b".", b"..") for part in parts)


def path_key(path: bytes) -> bytes:
    """Orders as section 12 does: component by component, the separator below every other byte."""
    return path.replace(b"/", b"\0")


CHUNK_REF = row(ID, integer(1, CHUNK_LEN_MAX))
ROWS: Test = lambda v: BYTES(v) and len(parse_rows(v, ENTRY_ROWS_MAX)) > 0
BLOB: Test = lambda v: octets(0, BLOB_INLINE_MAX)(v) or CHUNK_REF(v)
OWNER_NAME = octets(0, OWNER_NAME_MAX)
ENTRY: Table = {
    1: ("path", path_valid), 2: ("kind", integer(1, 8)), 3: ("mode", integer(0, 0o7777)), 4: ("uid", UINT32),
    5: ("gid", UINT32), 6: ("user", OWNER_NAME, None), 7: ("group", OWNER_NAME, None), 8: ("mtime", INT),
    9: ("size", UINT, 0), 10: ("inline", octets(0, INLINE_LEN_MAX), None),
    11: ("content", row(integer(0, CONTENT_LEVEL_MAX), ROWS), None), 12: ("target", octets(0, LINK_TARGET_MAX), None),
    13: ("link", path_valid, None), 14: ("xattrs", BLOB, None), 15: ("holes", BLOB, None),
    16: ("device", row(UINT32, UINT32), None), 17: ("marks", UINT, 0), 18: ("service", MAP, None),
}


def parse_entry(value: Any) -> Map:
    """A tree entry by the rules that concern it alone (12.1)."""
    e = fields(value, ENTRY, "entry")
    need(e.path != b"" or e.kind == DIRECTORY, "entry: empty path of something not a directory")
    need(e.inline is None or (e.content is None and e.kind == FILE), "entry: content twice, or inline in a resource")
    sized, filled = e.kind in (FILE, RESOURCE), any(v is not None for v in (e.inline, e.content, e.holes))
    need(sized or e.size == 0, "entry: size of something without content")
    need(filled == (sized and e.link is None and e.size > 0), "entry: size, content and holes do not fit each other")
    need(e.inline is None or e.holes is not None or len(e.inline) == e.size, "entry: size is not that of its content")
    need((e.target is not None) == (e.kind == SYMLINK) and b"\0" not in (e.target or b""), "entry: bad link target")
    need((e.device is not None) == (e.kind in (CHARACTER, BLOCK)), "entry: bad device numbers")
    need(e.service is None or e.kind == RESOURCE, "entry: metadata of something not a resource")
    need(e.link is None or (e.kind != DIRECTORY and path_key(e.link) < path_key(e.path)), "entry: bad hard link")
    return e


def parse_leaf(data: bytes) -> list[Map]:
    """The entries in a leaf (section 12)."""
    items = cbor_decode(data)
    need(len(data) <= TREE_LEN_MAX and each(MAP, LIST_MAX)(items), "leaf is too large, or not an array of entries")
    entries = [parse_entry(item) for item in items]
    need(ascending([path_key(entry.path) for entry in entries]), "leaf: paths are not ascending")
    return entries


CHILD = row(path_valid, ID, integer(1, TREE_LEN_MAX), UINT, UINT)


def parse_node(data: bytes) -> list[list[Any]]:
    """The children in a node (section 12)."""
    children = cbor_decode(data)
    need(len(data) <= TREE_LEN_MAX and each(CHILD, LIST_MAX)(children), "node is too large, or has a malformed child")
    need(len(children) > 0 and ascending([path_key(child[0]) for child in children]), "node is empty, or not in order")
    return children


def parse_rows(rows: bytes, limit: int) -> list[tuple[bytes, int]]:
    """Ids and lengths in the rows of a content list (12.3)."""
    need(len(rows) % 36 == 0 and 1 <= len(rows) // 36 <= limit, "content list: no rows, a part of one, or too many")
    found = list(struct.iter_unpack("<32sI", rows))
    need(all(1 <= length <= CHUNK_LEN_MAX for _, length in found), "content list: bad length of a chunk")
    return found


def parse_holes(raw: bytes, size: int) -> list[tuple[int, int]]:
    """Offsets and lengths of the holes of a file (12.1)."""
    need(len(raw) > 0 and len(raw) % 16 == 0, "holes: none, or bytes left over")
    rows = list(struct.iter_unpack("<QQ", raw))
    ends = [-1, *(offset + length for offset, length in rows)]
    fine = all(length > 0 and offset > end for (offset, length), end in zip(rows, ends))
    need(fine and ends[-1] <= size, "holes: empty, not ascending or outside the file")
    return rows


def parse_xattrs(raw: bytes) -> list[list[bytes]]:
    """Names and values of extended attributes (12.1)."""
    pairs = cbor_decode(raw)
    need(each(row(octets(1, 2**32), BYTES))(pairs) and len(pairs) > 0, "attributes: malformed or none")
    names = [name for name, _ in pairs]
    need(ascending(names) and b"\0" not in b"".join(names), "attributes: bad names")
    return pairs
