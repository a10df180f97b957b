"""Reading a vault with a key (section 14): from the header to the bytes of chunks and the entries of a snapshot."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Generator, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from coffer_format.cbor import Map, fields
from coffer_format.conventions import KH, FormatError, Refused, load, need, read_at
from coffer_format.header import parse_header
from coffer_format.index import Place, index_places, open_index
from coffer_format.limits import (
    CHUNK_ROWS_MAX, ENTRY_ROWS_MAX, HEADER_LEN_MAX, INDEX_LEN_MAX, PACK_LEN_MAX, PACK_LEN_MIN, RECORD_LEN_MAX,
    SEAL_HEAD_LEN, SLOT_LEN_MAX,
)
from coffer_format.packs import DATA, META, decompress, parse_frame
from coffer_format.records import RECORD_0, parse_manifest, parse_record, signature_valid, unpad_body
from coffer_format.replay import Log, Snapshot
from coffer_format.seals import (
    EPOCH, P_BODY, P_FRAME, P_PREV_RS, P_PREV_VK, PACK, RECORD, Seal, XWing, hpke_keys, kdf,
)
from coffer_format.slots import parse_slot, slot_secret, unwrap
from coffer_format.tree import parse_leaf, parse_node, parse_rows, path_key


def find_header(root: Path, vault_id: bytes | None) -> Map:
    """The header, or where it is lost or another one its copy in record 0 (section 14)."""
    try:
        return parse_header(load(root / "vault", HEADER_LEN_MAX, vault_id))
    except FormatError as fault:
        record = parse_record(load(root / "log/000000000000", RECORD_LEN_MAX))
        header = parse_header(fields(record.details, RECORD_0, "details").header)
        ours = header.vault_id == record.vault_id and vault_id in (None, header.vault_id)
        need(ours and record.signer == header.owner_key and signature_valid(record), f"no header: {fault}")
        return header


class Vault:
    """Reads what a vault holds, with the keys of all epochs that one opened slot leads to."""
    def __init__(self, root: Path, log: Log, key_file: bytes | None, passphrase: bytes | None) -> None:
        self.root, self.log = root, log
        self.notes = [f"record {n} {claim.what}, says {claim.signer.hex()}" for n, claim in log.damage.items()]
        faults = ["no current slot opens with this key"]
        self._rs, self._sealing = dict[int, bytes](), dict[int, XWing]()
        for name in log.slots:
            try:
                slot = parse_slot(load(root / "slots" / name.hex(), SLOT_LEN_MAX, name))
                need(slot.vault_id == log.vault_id and slot.epoch < len(log.epochs), "of another vault or epoch")
                if slot.epoch not in self._rs and (secret := slot_secret(slot, key_file, passphrase)):
                    key = unwrap(slot, secret)
                    self._take_keys(slot.epoch, *((key, kdf(key, "reader")) if slot.purpose == 1 else (None, key)))
            except FormatError as fault:
                faults.append(f"slot {name.hex()}: {fault}")
        if not self._rs:
            raise Refused("; ".join(faults))

    def _take_keys(self, number: int, vk: bytes | None, rs: bytes) -> None:
        """Check keys of an epoch against its public keys (section 7), and go on to the epoch before (9.10)."""
        epoch, sealing = self.log.epochs[number], XWing(kdf(rs, "sealing key"))
        need(sealing.public == epoch.sealing_key, f"the sealing key of epoch {number} does not follow")
        if vk is not None:
            owner = ed25519.Ed25519PrivateKey.from_private_bytes(kdf(vk, "owner signing key")).public_key()
            need(owner.public_bytes_raw() == epoch.owner_key, f"the owner's key of epoch {number} does not follow")
            need(kdf(vk, "reader") == rs, f"the keys of epoch {number} do not belong together")
        self._rs[number], self._sealing[number] = rs, sealing

        def previous(secret: bytes, what: str, purpose: int, sealed: bytes) -> bytes:
            seal = Seal(kdf(secret, f"previous {what}"), self.log.vault_id, EPOCH, bytes(32))
            return seal.open(purpose, number, sealed)

        if number > 0:
            prev_vk = None if vk is None else previous(vk, "vault key", P_PREV_VK, epoch.previous_vault_key)
            prev_rs = previous(rs, "reader secret", P_PREV_RS, epoch.previous_reader_secret)
            self._take_keys(number - 1, prev_vk, prev_rs)

    def domain_key(self, domain: bytes, label: str) -> bytes:
        """A key of a dedup domain (section 4)."""
        number = int.from_bytes(domain[:4], "little")
        need(number in self._rs, f"no key for epoch {number}")
        return kdf(kdf(self._rs[number], "dedup domains"), label, domain)

    def _unseal(self, kind: int, head: bytes, domain: bytes, epoch: int | None) -> Seal:
        """The key of a pack or body from salt, enc and commitment; without an epoch all are tried (5.2)."""
        need(len(head) == SEAL_HEAD_LEN, "sealed object is too short")
        salt, enc, commitment = head[:32], head[32:1152], head[1152:]
        info = b"coffer/1 " + (b"pack" if kind == PACK else b"record") + b"\0" + self.log.vault_id + salt
        psk = self.domain_key(domain, "psk")
        for number in sorted(self._sealing, reverse=True):
            if epoch in (None, number):
                shared = self._sealing[number].decapsulate(enc)
                key, expected = hpke_keys(shared, psk, b"coffer/1 domain" + domain, info)
                if hmac.compare_digest(commitment, expected):
                    return Seal(key, self.log.vault_id, kind, salt)
        raise FormatError("commitment does not match: not sealed to a known key, or damaged")

    def open_body(self, record: Map) -> bytes:
        """The CBOR in the sealed body of a record (8.1)."""
        seal = self._unseal(RECORD, record.body[:SEAL_HEAD_LEN], record.domain, record.epoch)
        extra = struct.pack("<Q", record.number) + record.signer
        return unpad_body(seal.open(P_BODY, 0, record.body[SEAL_HEAD_LEN:], extra))

    @cache
    def _pack_seal(self, path: Path, domain: bytes) -> Seal:
        """The key of a pack; opening one is slow here, so it is kept (5.2)."""
        need(path.is_file() and PACK_LEN_MIN <= path.stat().st_size <= PACK_LEN_MAX, f"no pack {path} of a fit length")
        return self._unseal(PACK, read_at(path, 0, SEAL_HEAD_LEN), domain, None)

    @lru_cache(16)
    def _frame(self, domain: bytes, pack: bytes, number: int, offset: int, sealed_len: int) -> tuple[int, bytes]:
        """Kind and plain bytes of a frame (section 10)."""
        need(sealed_len <= PACK_LEN_MAX, "frame: beyond a limit")
        path = self.root / "packs" / pack.hex()[:2] / pack.hex()
        plain = self._pack_seal(path, domain).open(P_FRAME, number, read_at(path, offset, sealed_len))
        codec, kind, plain_len, payload = parse_frame(plain)
        return kind, payload if codec == 0 else decompress(payload, plain_len)

    @cache
    def _places(self, domain: bytes) -> dict[bytes, list[Place]]:
        """All places in live segments, then in removed ones, by the first 20 bytes of the ids (section 14)."""
        found: dict[bytes, list[Place]] = {}
        for name, segment in [*self.log.live.items(), *self.log.removed.items()]:
            try:
                if segment.domain == domain:
                    data = load(self.root / "index" / name.hex(), INDEX_LEN_MAX, name)
                    need(len(data) == segment.length and data[8:24] == domain, "not what the log says")
                    index = open_index(data, self.log.vault_id, self.domain_key(domain, "index"))
                    for chunk_id, place in index_places(index):
                        found.setdefault(chunk_id, []).append(place)
            except FormatError as fault:
                self.notes.append(f"index segment {name.hex()}: {fault}")
        return found

    def chunk(self, domain: bytes, kind: int, chunk_id: bytes, length: int) -> bytes:
        """The bytes of a chunk, its id recomputed (section 10)."""
        key = self.domain_key(domain, "data chunk id" if kind == DATA else "meta chunk id")
        why = "it has no place"
        for place in self._places(domain).get(chunk_id[:20], []):
            try:
                frame_kind, plain = self._frame(domain, *place[:4])
                need((frame_kind, len(plain), length) == (kind, place.plain_len, place.length), "the place is another")
                data = plain[place.offset : place.offset + length]
                need(KH(key, data) == chunk_id, "the place holds something else")
                return data
            except (FormatError, OSError) as fault:
                why = str(fault)
        raise FormatError(f"chunk {chunk_id.hex()} is lost: {why}")

    def blob(self, domain: bytes, value: bytes | list[Any]) -> bytes:
        """The bytes of a blob (12.1)."""
        return value if isinstance(value, bytes) else self.chunk(domain, META, *value)

    def content(self, domain: bytes, level: int, rows: bytes, limit: int = ENTRY_ROWS_MAX) -> Iterator[bytes]:
        """The bytes that a content list stands for, chunk by chunk (12.3)."""
        for chunk_id, length in parse_rows(rows, limit):
            data = self.chunk(domain, META if level else DATA, chunk_id, length)
            yield from self.content(domain, level - 1, data, CHUNK_ROWS_MAX) if level else [data]

    def tree(self, snapshot: Snapshot) -> Iterator[Map]:
        """All entries of a snapshot in order; order, counts and heights are checked (section 12)."""
        domain, seen = snapshot.record.domain, [None]  # of seen entries, the last path

        def walk(chunk_id: bytes, length: int, height: int, top: bool) -> Generator[Map, None, tuple[int, int]]:
            data = self.chunk(domain, META, chunk_id, length)
            count = size = 0
            for last_path, child_id, child_len, *sums in parse_node(data) if height else []:
                below = yield from walk(child_id, child_len, height - 1, False)
                need([seen[0], *below] == [last_path, *sums], "tree: a child is not what its node says")
                count, size = count + below[0], size + below[1]
            entries = parse_leaf(data) if height == 0 else []
            need(height > 0 or top or len(entries) > 0, "tree: empty leaf")
            for entry in entries:
                need(seen[0] is None or path_key(seen[0]) < path_key(entry.path), "tree: not in order")
                seen[0], count, size = entry.path, count + 1, size + entry.size
                yield entry
            return count, size

        yield from walk(*parse_manifest(self.open_body(snapshot.record)).root, True)
