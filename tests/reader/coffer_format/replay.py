"""The state of a vault by replay of its log (section 8.2), and what each kind of record does to it (9)."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

from coffer_format.cbor import Map
from coffer_format.conventions import FormatError, H, load, need, read_at
from coffer_format.limits import BEYOND_MAX, GAP_MAX, LOG_NUMBER_MAX, MINOR_KNOWN, RECORD_LEN_MAX, WRITER_GAP_MAX
from coffer_format.records import (
    MAINTAINER, OWNER, PROGRESS, PROMOTE, PUT, SLOTS, SNAPSHOT, ZERO_HOME, kind_of, parse_details, parse_record,
    signature_valid,
)
from coffer_format.seals import INDEX, PACK

# A record that is void for one of these may once have had other bytes (8.2, rule 7).
UNPROVEN = ("missing", "malformed", "foreign", "body", "version", "signer", "signature")


class Segment(NamedTuple):
    """An index segment that the log names."""
    length: int
    domain: bytes
    number: int  # of the record that added it


class Snapshot(NamedTuple):
    """A snapshot record, and the number of the record that made it effective."""
    number: int
    record: Map


class Role(NamedTuple):
    """What an enrolled key may do."""
    role: int
    domains: set[bytes]


class Outcome(NamedTuple):
    """What came of a record: its chain value, None if it is missing, and why it is void, None if it is not."""
    chain: bytes | None
    reason: str | None


class Claim(NamedTuple):
    """That the log is damaged: who says so, and what it is."""
    signer: bytes
    what: str


class Log:
    """The state of a vault by replay of its log (8.2)."""
    def __init__(self, root: Path, header: Map) -> None:
        self.vault_id, self.minor, self.term, self.home = header.vault_id, header.minor, 0, ZERO_HOME
        self.epochs = [header]  # then details of epoch records
        self.roles = {header.owner_key: Role(OWNER, set())}  # of all keys that are or were enrolled
        self.slots, self.outcomes, self.damage = list[bytes](), list[Outcome](), dict[int, Claim]()  # that counts
        self.live, self.removed = dict[bytes, Segment](), dict[bytes, Segment]()  # removed and not swept
        self.condemned: set[tuple[int, bytes]] = set()  # and not swept
        self.snapshots: dict[bytes, Snapshot] = {}
        self.forgotten, self.held, self.revoked = set[bytes](), set[bytes](), set[bytes]()  # snapshots, and keys
        self.swept_segments, self.swept_packs = set[bytes](), set[bytes]()
        self.last_prune, self.last_policy = 0, None
        listed = sorted(int(path.name) for path in root.glob("log/*") if re.fullmatch("[0-9]{12}", path.name))
        for number in range(LOG_NUMBER_MAX + 1):
            path = root / f"log/{number:012d}"
            if path.is_file():
                self.outcomes.append(self._take(number, read_at(path, 0, RECORD_LEN_MAX), path.stat().st_size))
            elif claimant := self._claimant(root, number, [later for later in listed if later > number]):
                self.damage[number] = Claim(claimant, "is missing")
                self.outcomes.append(Outcome(None, "missing"))
            else:
                break
            if self.minor > MINOR_KNOWN:  # what follows may mean something else (section 3)
                break

    def _claimant(self, root: Path, absent: int, behind: list[int]) -> bytes | None:
        """Who signed the first record behind `absent` that shows that it was there once (8.2)."""
        for number in behind[:BEYOND_MAX]:
            try:
                record = parse_record(load(root / f"log/{number:012d}", RECORD_LEN_MAX))
            except FormatError:
                continue
            if record.vault_id == self.vault_id and record.number == number and self._judge_signer(record) is None:
                if number - absent <= (GAP_MAX if self._is_trusted(record.signer) else WRITER_GAP_MAX):
                    return record.signer
        return None

    def _is_trusted(self, signer: bytes) -> bool:
        """Whether claims of `signer` count for good (8.2)."""
        return self.roles[signer].role in (OWNER, MAINTAINER)

    def _take(self, number: int, data: bytes, length: int) -> Outcome:
        """Replay one object of `length` bytes, of which `data` are all or the first `RECORD_LEN_MAX` (8.1, 8.2)."""
        if length > RECORD_LEN_MAX:
            return Outcome(H(data + struct.pack("<Q", length)), "malformed")
        try:
            record = parse_record(data)
        except FormatError:
            return Outcome(H(data), "malformed")
        return Outcome(record.chain, self._judge(number, record))

    def _judge(self, number: int, record: Map) -> str | None:
        """Why `record` is void as record `number`; if it is not, None, and it has taken effect (8.2)."""
        if record.vault_id != self.vault_id or record.number != number:
            return "foreign"
        if reason := self._judge_origin(record):
            return reason
        before = self.outcomes[-1] if number else Outcome(bytes(32), None)
        if record.previous != before.chain:
            if before.reason not in UNPROVEN:
                return "chain"
            self.damage.setdefault(number - 1, Claim(record.signer, f"had other bytes when record {number} was signed"))
        if record.home != self.home:
            return "home"
        if record.term != self.term + (record.kind == PROMOTE):
            return "term"
        if reason := self._judge_rights(number, record):
            return reason
        try:
            need(number > 0 or record.kind == SLOTS, "record 0 is not of kind slots")
            self._apply_kind(number, record, parse_details(record.kind, number, record.details))
        except FormatError:
            return "details"
        for name in record.removed:
            self.removed[name] = self.live.pop(name)
        self._add(number, record)
        self.slots = self.slots if record.slots is None else record.slots
        return None

    def _judge_origin(self, record: Map) -> str | None:
        """Rules 3 to 6 of 8.2."""
        if record.body_hash is not None and record.body_hash != H(record.body):
            return "body"
        return "version" if record.minor > self.minor else self._judge_signer(record)

    def _judge_signer(self, record: Map) -> str | None:
        """Rules 5 and 6 of 8.2."""
        if record.signer not in self.roles or record.signer in self.revoked:
            return "signer"
        return None if signature_valid(record) else "signature"

    def _judge_rights(self, number: int, record: Map) -> str | None:
        """Rules 9 to 12 of 8.2."""
        kind, signer = kind_of(record.kind, number), self.roles[record.signer]
        if kind is None:
            return "kind"
        parts = (record.added, record.removed, record.slots, record.body, record.details is not None)
        rules = zip(kind.parts + ("-" if kind.details is None else "!"), parts)
        if signer.role not in kind.roles or any(rule == ("-" if part else "!") for rule, part in rules):
            return "role"
        domains = {domain for _, _, domain in record.added} | {record.domain} - {None}
        if signer.role == PUT and not domains <= signer.domains:
            return "domain"
        known = self.live.keys() | self.removed.keys() | self.swept_segments
        fresh = not any(name in known for name, _, _ in record.added)
        return None if fresh and self.live.keys() >= set(record.removed) else "segment"

    def _add(self, number: int, record: Map) -> None:
        """Make segments of `record`, and the snapshot that it is, effective with `number` (8.2)."""
        self.live.update((name, Segment(length, domain, number)) for name, length, domain in record.added)
        if record.kind == SNAPSHOT:
            self.snapshots[record.chain] = Snapshot(number, record)

    def _apply_kind(self, number: int, record: Map, d: Map) -> None:
        """The rules for each kind that need the state, 13 of 8.2, and behind them its effect (section 9)."""
        ids = set(getattr(d, "snapshots", []))
        need(ids <= self.snapshots.keys(), "not an effective snapshot")
        match record.kind:
            case 3:  # forget
                need(not ids & self.held, "forget of a held snapshot")
                self.forgotten |= ids
            case 4:  # unforget
                self.forgotten -= ids
            case 5:  # hold
                self.held = self.held | ids if d.held else self.held - ids
            case 7:  # prune
                need(self.last_prune <= d.base < number, "base is outside its bounds")
                self.last_prune = number
                self.condemned.update(map(tuple, d.orphans))
            case 8:  # sweep
                need(self.last_prune <= d.base < number, "base is outside its bounds")
                need(self.live.keys().isdisjoint(d.segments), "sweep of a live segment")
                self.last_prune = number
                self.swept_segments.update(d.segments)
                self.swept_packs.update(d.packs)
                self.condemned -= {(INDEX, name) for name in d.segments} | {(PACK, name) for name in d.packs}
                self.removed = {name: s for name, s in self.removed.items() if name not in self.swept_segments}
            case 9:  # slots
                need(number > 0 or H(d.header) == self.vault_id, "record 0 does not carry the header")
            case 10:  # epoch
                need(d.number == len(self.epochs) and d.owner_key not in self.roles, "epoch out of order, or old key")
                self.revoked.add(self.epochs[-1].owner_key)
                self.roles[d.owner_key] = Role(OWNER, set())
                self.epochs.append(d)
            case 11 if d.action == 1:  # enrolment
                need(d.key not in self.roles, "the key is or was enrolled")
                self.roles[d.key] = Role(d.role, set(d.domains))
            case 11:  # revocation
                need(d.key in self.roles and d.key not in self.revoked, "no such key to revoke")
                need(self.roles[d.key].role != OWNER, "revocation of the owner")
                self.revoked.add(d.key)
                if not self._is_trusted(d.key):
                    self.damage = {n: claim for n, claim in self.damage.items() if claim.signer != d.key}
            case 12:  # policy
                need(d.minor is None or d.minor >= self.minor, "policy lowers the minor version")
                self.minor, self.last_policy = self.minor if d.minor is None else d.minor, number
            case 14:  # handover
                need(d.home != self.home, "handover to no other home")
                self.home = d.home
            case 15:  # promote
                need(d.last == number - 1 and d.chain == record.previous, "wrong place")
                self.home, self.term = d.home, record.term
            case 16:  # reconcile
                self._reconcile(number, [parse_record(data) for data in d.records])
            case 19:  # checkpoint
                need(d.number == number - 1, "checkpoint of another state than the one before it")

    def _reconcile(self, number: int, quoted: list[Map]) -> None:
        """Kind 16: each quoted record must be one that could take effect here, but for its place in a log."""
        for record in quoted:
            need(record.vault_id == self.vault_id and record.kind in (SNAPSHOT, PROGRESS), "unfit quoted record")
            fault = self._judge_origin(record) or self._judge_rights(number, record)
            need(fault is None and record.chain not in self.snapshots, f"quoted record: {fault or 'effective'}")
        for list_ in ([record.chain for record in quoted], [row[0] for record in quoted for row in record.added]):
            need(len(set(list_)) == len(list_), "a record quoted twice, or a segment added by two")
        for record in quoted:
            self._add(number, record)
