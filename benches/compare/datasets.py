"""The data that tools are compared on. What is generated is the same on every machine.

Run by itself with a number of bytes, it writes the generated stream to standard output.
"""

import binascii
import json
import os
import random
import shutil
import sys
from pathlib import Path

MIB = 1 << 20
NAMES = ["source", "random", "json", "big", "stream"]
# Generated files are that old, so that no tool takes them for just written.
MTIME = 1_700_000_000


class DataSet:
    """A tree of files that can be made, changed by about one part in a hundred, and changed back."""

    def __init__(self, name, scale):
        self.name, self.scale = name, scale

    def make(self, root):
        raise NotImplementedError

    def change(self, root, undo):
        """Changes every hundredth file: lines are added to one, bytes replaced in the middle of the next."""
        shutil.rmtree(undo, ignore_errors=True)
        undo.mkdir()
        kept = []
        for number, path in enumerate(self.chosen(root)):
            copy = undo / str(number)
            shutil.copy2(path, copy)
            kept.append(str(path))
            mode = path.stat().st_mode
            path.chmod(mode | 0o200)
            with open(path, "r+b") as file:
                length = file.seek(0, os.SEEK_END)
                added = b"changed line %08d\n" % number
                if number % 2 == 0:
                    file.write(added * 3)
                else:
                    file.seek(length // 2)
                    file.write(added)
            path.chmod(mode)
        (undo / "paths").write_text(json.dumps(kept), encoding="utf-8")

    def undo(self, root, undo):
        """As before, contents and times of change."""
        for number, path in enumerate(json.loads((undo / "paths").read_text(encoding="utf-8"))):
            os.unlink(path)
            shutil.copy2(undo / str(number), path)
        del root
        shutil.rmtree(undo)

    @staticmethod
    def chosen(root):
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        return files[7::100] or files[:1]


class Source(DataSet):
    """A copy of a tree of source files; every tenth directory at its top when small."""

    def __init__(self, origin, scale):
        super().__init__("source", scale)
        self.origin = origin

    def make(self, root):
        tops = sorted(path for path in self.origin.iterdir())
        while len(tops) == 1 and tops[0].is_dir():
            tops = sorted(path for path in tops[0].iterdir())
        step = round(1 / self.scale)
        root.mkdir()
        for top in tops[::step]:
            if top.is_dir():
                shutil.copytree(top, root / top.name, symlinks=True)
            else:
                shutil.copy2(top, root / top.name)


class Incompressible(DataSet):
    """1 GiB of random bytes in 85 files of 4 to 256 MiB."""

    def make(self, root):
        root.mkdir()
        generator = random.Random(1)
        number = 0
        for count, mib in ((1, 256), (4, 64), (16, 16), (64, 4)):
            for _ in range(count):
                with open(root / f"file-{number:03}", "wb") as file:
                    for _ in range(max(1, round(mib * self.scale * 4))):
                        file.write(generator.randbytes(MIB // 4))
                os.utime(root / f"file-{number:03}", (MTIME, MTIME))
                number += 1


class SmallJson(DataSet):
    """100,000 JSON files of about 900 bytes, like an export of accounts, in 1,000 directories."""

    def make(self, root):
        generator = random.Random(2)
        words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(3, 9))) for _ in range(2000)]
        for directory in range(round(1000 * self.scale)):
            place = root / f"{directory:04}"
            place.mkdir(parents=True)
            for number in range(100):
                path = place / f"account-{directory * 100 + number:06}.json"
                path.write_text(json.dumps(self.account(generator, words, directory * 100 + number), indent=1), encoding="utf-8")
                os.utime(path, (MTIME + number, MTIME + number))
            os.utime(place, (MTIME, MTIME))

    @staticmethod
    def account(generator, words, number):
        name = generator.sample(words, 2)
        return {
            "id": f"{generator.getrandbits(128):032x}",
            "number": number,
            "name": {"given": name[0], "family": name[1]},
            "email": f"{name[0]}.{name[1]}@{generator.choice(words)}.example",
            "created": f"20{generator.randint(10, 25)}-{generator.randint(1, 12):02}-{generator.randint(1, 28):02}T{generator.randint(0, 23):02}:{generator.randint(0, 59):02}:00Z",
            "roles": generator.sample(["reader", "writer", "owner", "auditor", "guest", "operator"], 3),
            "settings": {"language": generator.choice(["en", "de", "fr", "ja"]), "beta": generator.random() < 0.2, "quota_bytes": generator.randint(1, 64) << 30},
            "secret_hash": f"{generator.getrandbits(256):064x}",
            "tags": [{"key": generator.choice(words), "value": generator.choice(words)} for _ in range(4)],
            "note": " ".join(generator.choices(words, k=34)),
        }


def mixed_block(generator, number):
    """1 MiB of one of four kinds: random, base64, hexadecimal, lines of a log."""
    kind = number % 4
    if kind == 0:
        return generator.randbytes(MIB)
    if kind == 1:
        return binascii.b2a_base64(generator.randbytes(MIB * 3 // 4), newline=False)
    text = binascii.hexlify(generator.randbytes(MIB // 2))
    if kind == 2:
        return text
    line = b"2026-01-01T00:00:00Z host service[4711]: request %s was answered with 200 in 12 ms\n"
    lines = b"".join(line % text[at:at + 24] for at in range(0, MIB // 4, 24))
    return lines[:MIB]


class Big(DataSet):
    """One file of 4 GiB, a quarter of it incompressible, the rest less and less so. Changed are places around its middle."""

    # An insertion moves what is behind it, up to where the same length is taken out.
    MOVED_LEN, INSERTED_LEN, EDIT_LEN, EDIT_COUNT = 32 * MIB, 4096, 65536, 8

    def make(self, root):
        root.mkdir()
        generator = random.Random(3)
        with open(root / "image", "wb") as file:
            for number in range(round(4096 * self.scale)):
                file.write(mixed_block(generator, number))
        os.utime(root / "image", (MTIME, MTIME))

    def change(self, root, undo):
        shutil.rmtree(undo, ignore_errors=True)
        undo.mkdir()
        generator = random.Random(4)
        with open(root / "image", "r+b") as file:
            length = file.seek(0, os.SEEK_END)
            first = length // 2
            with open(undo / "kept", "wb") as kept:
                for at, size in self.places(length):
                    file.seek(at)
                    kept.write(file.read(size))
            file.seek(first)
            moved = file.read(self.MOVED_LEN)
            file.seek(first)
            file.write(generator.randbytes(self.INSERTED_LEN))
            file.write(moved[:-self.INSERTED_LEN])
            for at, size in self.places(length)[1:]:
                file.seek(at)
                file.write(generator.randbytes(size))

    def undo(self, root, undo):
        with open(root / "image", "r+b") as file, open(undo / "kept", "rb") as kept:
            length = file.seek(0, os.SEEK_END)
            for at, size in self.places(length):
                file.seek(at)
                file.write(kept.read(size))
        os.utime(root / "image", (MTIME, MTIME))
        shutil.rmtree(undo)

    def places(self, length):
        first, step = length // 2, length // 64
        behind = first + self.MOVED_LEN
        return [(first, self.MOVED_LEN)] + [(behind + number * step, self.EDIT_LEN) for number in range(self.EDIT_COUNT)]


def make(name, source, scale):
    """The data set of that name."""
    if name == "source":
        return Source(source, scale)
    return {"random": Incompressible, "json": SmallJson, "big": Big}[name](name, scale)


def stream(length, out):
    """Writes `length` bytes that never repeat and become about twenty times smaller: it has to fit somewhere."""
    generator = random.Random(5)
    pool = b"".join(mixed_block(generator, 3) for _ in range(64))
    written = 0
    block = bytearray(MIB)
    while written < length:
        at = generator.randrange(len(pool) - MIB)
        block[:] = pool[at:at + MIB]
        for place in range(0, MIB, 65536):
            block[place:place + 2048] = generator.randbytes(2048)
        size = min(MIB, length - written)
        out.write(memoryview(block)[:size])
        written += size


if __name__ == "__main__":
    try:
        stream(int(sys.argv[1]), sys.stdout.buffer)
    except BrokenPipeError:
        # Whoever reads has ended before the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
