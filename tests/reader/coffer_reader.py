#!/usr/bin/env python3
"""A second reader of coffer vaults, written from docs/format.md alone. The folder coffer_format beside it follows the
sections of that document; this file is the command line.

It shares no code with the main implementation and never writes to a vault. Not restored: owners and attributes.

    coffer_reader.py VAULT (--key-file F | --passphrase-file F) [--vault-id HEX] VERB

VERB is `list`, `ls SNAPSHOT` or `restore SNAPSHOT TARGET_DIR`. SNAPSHOT is an id, a prefix that only one id has, or
`latest`. Exit status: 0 sound, 1 something was damaged, 2 refused.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from coffer_format.cbor import Map
from coffer_format.conventions import FormatError, Refused, need
from coffer_format.limits import MINOR_KNOWN
from coffer_format.records import parse_manifest
from coffer_format.replay import Log, Snapshot
from coffer_format.slots import parse_key_file
from coffer_format.tree import DIRECTORY, KIND_NAMES, NODE_TYPES, SYMLINK, parse_holes, parse_xattrs
from coffer_format.vault import Vault, find_header


def choose(log: Log, name: str) -> Snapshot:
    """The snapshot that `name` means: an id, a prefix that only one id has, or `latest`."""
    live = [snapshot for key, snapshot in log.snapshots.items() if key not in log.forgotten]
    found = live[-1:] if name == "latest" else [s for key, s in log.snapshots.items() if key.hex().startswith(name)]
    if len(found) != 1 or not name:
        raise Refused(f"{len(found)} snapshots are named {name!r}")
    return found[0]


def show(raw: bytes) -> str:
    """Bytes from a vault for a terminal: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in raw.decode("utf-8", "backslashreplace"))


def run_list(vault: Vault) -> int:
    """Print id, record number, time in seconds since 1970, host, sources and marks of every snapshot."""
    for key, (number, record) in vault.log.snapshots.items():
        manifest = parse_manifest(vault.open_body(record))
        marks = ["forgotten"] * (key in vault.log.forgotten) + ["held"] * (key in vault.log.held)
        print(key.hex(), number, record.time, *map(show, [manifest.host.encode(), *manifest.sources]), *marks)
    return 0


def run_ls(vault: Vault, name: str) -> int:
    """Print every entry of a snapshot."""
    for entry in vault.tree(choose(vault.log, name)):
        more = [f"-> {show(entry.target)}"] * bool(entry.target) + [f"= {show(entry.link)}"] * bool(entry.link)
        print(KIND_NAMES[entry.kind], f"{entry.mode:04o}", entry.size, show(entry.path) or ".", *more)
    return 0


def write_file(vault: Vault, domain: bytes, entry: Map, path: bytes) -> None:
    """Write a file that must not exist yet, leaving its holes; size must be content plus holes (12.1)."""
    holes = parse_holes(vault.blob(domain, entry.holes), entry.size) if entry.holes else []
    starts, ends = [0, *(start + length for start, length in holes)], [*(start for start, _ in holes), entry.size]
    content = vault.content(domain, *entry.content) if entry.content else iter([entry.inline or b""])
    data = b""
    with open(path, "xb") as file:
        for start, end in zip(starts, ends):
            file.seek(start)
            while file.tell() < end:
                data = data or next(content, b"")
                need(data != b"", "content is shorter than size and holes say")
                data = data[file.write(data[: end - file.tell()]) :]
        need(data == next(content, b"") == b"", "content is longer than size and holes say")
        file.truncate(entry.size)


def run_restore(vault: Vault, name: str, target: str) -> int:
    """Restore below `target`, which must be new or empty, so that every parent there was made here."""
    snapshot, root, faults = choose(vault.log, name), os.fsencode(target), 0
    os.makedirs(root, exist_ok=True)
    if os.listdir(root) or os.path.islink(root):
        raise Refused("the target is not an empty directory")
    seen: dict[bytes, tuple[int, int, bool]] = {}  # kind, size, and whether it may be the first of hard links
    made: list[tuple[bytes, int, int, int]] = []

    def restore(entry: Map, path: bytes) -> None:
        parts = entry.path.split(b"/")
        for depth in range(1, len(parts)):
            parent = seen.setdefault(b"/".join(parts[:depth]), (DIRECTORY, 0, False))
            need(parent[0] == DIRECTORY, "lies below something not a directory")
        seen[entry.path] = (entry.kind, entry.size, entry.link is None)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry.xattrs is not None:
            parse_xattrs(vault.blob(snapshot.record.domain, entry.xattrs))
        if entry.link is not None:
            need(seen.get(entry.link) == (entry.kind, entry.size, True), "its first entry is missing, or not like it")
            os.link(os.path.join(root, entry.link), path, follow_symlinks=False)
            return
        if entry.kind == DIRECTORY:
            os.makedirs(path, exist_ok=True)
        elif entry.kind == SYMLINK:
            os.symlink(entry.target, path)
        elif entry.kind in NODE_TYPES:
            os.mknod(path, NODE_TYPES[entry.kind], os.makedev(*(entry.device or (0, 0))))
        else:
            write_file(vault, snapshot.record.domain, entry, path)
        made.append((path, entry.kind, entry.mode, entry.mtime))

    try:
        for entry in vault.tree(snapshot):
            try:
                restore(entry, os.path.join(root, entry.path) if entry.path else root)
            except (FormatError, OSError) as fault:
                faults += 1
                print(f"{show(entry.path)}: {fault}", file=sys.stderr)
    finally:
        for path, kind, mode, mtime in reversed(made):
            if kind != SYMLINK:
                os.chmod(path, mode)
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
    return 1 if faults else 0


def main() -> int:
    """Run what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description="Reads coffer vaults; exit status 0 sound, 1 not sound, 2 refused.")
    parser.add_argument("vault", type=Path)
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--key-file", type=Path)
    keys.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--vault-id", type=bytes.fromhex)
    parser.add_argument("verb", choices=["list", "ls", "restore"])
    parser.add_argument("arguments", nargs="*")
    o = parser.parse_args()
    if len(o.arguments) != {"list": 0, "ls": 1, "restore": 2}[o.verb]:
        parser.error(f"wrong number of arguments for {o.verb}")
    try:
        log = Log(o.vault, find_header(o.vault, o.vault_id))
        if log.minor > MINOR_KNOWN:
            raise Refused(f"the log raises the minor version to {log.minor}, which this reader does not know")
        key_file = parse_key_file(o.key_file.read_bytes()) if o.key_file else None
        passphrase = re.sub(rb"\r?\n\Z", b"", o.passphrase_file.read_bytes()) if o.passphrase_file else None
        vault = Vault(o.vault, log, key_file, passphrase)
        try:
            status = {"list": run_list, "ls": run_ls, "restore": run_restore}[o.verb](vault, *o.arguments)
        finally:
            for note in vault.notes:
                print(f"damaged: {note}", file=sys.stderr)
        return 1 if vault.notes else status
    except (Refused, FormatError, OSError) as fault:
        print(f"coffer_reader: {fault}", file=sys.stderr)
        return 2 if isinstance(fault, Refused) else 1


if __name__ == "__main__":
    sys.exit(main())
