"""The tools that are compared: where they are, and their commands for each step."""

import os
import shutil
import subprocess
from pathlib import Path

HOW_TO_INSTALL = {
    "coffer": "cargo build --release -p coffer-cli, or --coffer FILE",
    "coffer-no-extra-verify": "the same as coffer",
    "restic": "apt install restic (0.18 or newer; Debian trixie has it), or https://github.com/restic/restic/releases",
    "rustic": "cargo install --locked rustic-rs",
    "borg": "python3 -m venv borg && borg/bin/pip install borgbackup (needs libacl1-dev, libxxhash-dev, liblz4-dev, libzstd-dev, libssl-dev)",
    "bupstash": "cargo install --locked bupstash (needs libsodium-dev, pkg-config)",
    "tar+zstd+age": "apt install tar zstd age",
    "tar+zstd-T0+age": "apt install tar zstd age",
}
ALL_TOOLS = list(HOW_TO_INSTALL)

# Where each lies below --peers.
PLACES = {"restic": "restic/usr/bin/restic", "rustic": "rustic/bin/rustic", "borg": "borg/bin/borg", "bupstash": "bupstash/bin/bupstash"}

PASSWORD = "correct horse battery staple"


class Work:
    """What is run for one step."""

    def __init__(self, *pipeline, cwd=None, stdout=None, is_timed=True):
        self.pipeline, self.cwd, self.stdout, self.is_timed = list(pipeline), cwd, stdout, is_timed


class Tool:
    """A tool with a home of its own, which holds its store, its key and its caches."""

    # Times are compared in steps of this many nanoseconds.
    mtime_step_ns = 1

    def __init__(self, name, program):
        self.name, self.program = name, str(program)
        self.home, self.environment, self.shown, self.second = None, {}, {}, False

    def prepare(self, home):
        """Begins anew in an empty home."""
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        self.home, self.second = home, False
        prefixes = ("COFFER_", "RESTIC_", "RUSTIC_", "BORG_", "BUPSTASH_", "XDG_", "ZSTD_", "TAR_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        # Caches and configuration follow from this, so that nothing outside is read or written.
        self.environment["HOME"] = str(home)
        self.environment.update(self.variables())
        (home / "password").write_text(PASSWORD + "\n", encoding="utf-8")

    def command(self, step):
        """What is run for `step`, or nothing if the tool has no such thing."""
        method = getattr(self, step, None)
        work = method() if method else None
        if work:
            self.shown[step] = " | ".join(" ".join(map(str, command)) for command in work.pipeline)
        return work

    def variables(self):
        return {}

    # Whether the directory to restore into has to be there; the others make it.
    wants_target = False

    def restored_root(self, target):
        return target / "data"

    def stream_command(self):
        return None

    def stream_restore_command(self):
        return None

    def version(self):
        for argument in ("--version", "version"):
            done = subprocess.run([self.program, argument], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return (done.stdout or done.stderr).splitlines()[0]
        return "unknown"

    def store(self):
        return self.home / "store"


class Coffer(Tool):
    """coffer with a key file: nothing is derived from a passphrase."""

    def base(self, with_key=True):
        key = ["--key-file", self.home / "key"] if with_key else []
        return [self.program, "--vault", self.store(), "--cache-dir", self.home / "cache", "--quiet", *key]

    def init_commands(self):
        return [[self.program, "keys", "new-file", self.home / "key"], [*self.base(), "init", "--single-slot"]]

    def first(self):
        return Work([*self.base(), "backup", "data"])

    unchanged = changed = first

    def restore(self):
        return Work([*self.base(), "restore", "latest", "--target", "restored"])

    def keyless(self):
        return Work([*self.base(with_key=False), "verify"])

    def deep(self):
        return Work([*self.base(), "verify", "--deep"])

    def list(self):
        return Work([*self.base(), "snapshots"])

    def stream_command(self):
        return [*self.base(), "backup", "--stdin"]

    def stream_restore_command(self):
        return [*self.base(), "dump", "latest", "stdin"]


class CofferNoExtraVerify(Coffer):
    """The same without opening what was sealed before it is stored; only backups differ."""

    def first(self):
        return Work([*self.base(), "backup", "--no-extra-verify", "data"])

    changed = first
    unchanged = first
    keyless = deep = list = restore = lambda self: None

    def stream_command(self):
        return None


class Restic(Tool):
    """restic: its key is derived by scrypt from a password, in every command; `unlock` is what that takes."""

    def base(self):
        return [self.program, "--repo", self.store(), "--password-file", self.home / "password", "--quiet"]

    def init_commands(self):
        return [[*self.base(), "init"]]

    def first(self):
        return Work([*self.base(), "backup", "data"])

    unchanged = changed = first

    def restore(self):
        return Work([*self.base(), "restore", "latest", "--target", "restored"])

    def deep(self):
        return Work([*self.base(), "check", "--read-data"])

    def list(self):
        return Work([*self.base(), "snapshots"])

    def unlock(self):
        return Work([*self.base(), "cat", "config"])

    def stream_command(self):
        return [*self.base(), "backup", "--stdin"]

    def stream_restore_command(self):
        return [*self.base(), "dump", "latest", "stdin"]


class Rustic(Tool):
    """rustic: as restic, whose format it shares."""

    def base(self):
        return [self.program, "--repository", self.store(), "--password-file", self.home / "password", "--no-progress"]

    def init_commands(self):
        return [[*self.base(), "init"]]

    def first(self):
        return Work([*self.base(), "backup", "data"])

    unchanged = changed = first

    def restore(self):
        return Work([*self.base(), "restore", "latest", "restored"])

    def deep(self):
        return Work([*self.base(), "check", "--read-data"])

    def list(self):
        return Work([*self.base(), "snapshots"])

    def unlock(self):
        return Work([*self.base(), "cat", "config"])

    def stream_command(self):
        # Without this a stream of the same name would be taken for unchanged, and not be read.
        return [*self.base(), "backup", "--force", "-"]


class Borg(Tool):
    """Borg with a key in the repository, under a passphrase, and zstd 3."""

    wants_target = True

    def variables(self):
        return {"BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": str(self.home), "BORG_EXIT_CODES": "modern"}

    def init_commands(self):
        return [[self.program, "init", "--encryption=repokey-blake2", self.store()]]

    def create(self, archive):
        return [self.program, "create", "--compression", "zstd,3", f"{self.store()}::{archive}"]

    def first(self):
        return Work([*self.create("first"), "data"])

    def unchanged(self):
        return Work([*self.create("unchanged"), "data"])

    def changed(self):
        return Work([*self.create("changed"), "data"])

    def restore(self):
        return Work([self.program, "extract", f"{self.store()}::changed"], cwd=self.home.parent.parent / "restored")

    def deep(self):
        return Work([self.program, "check", "--verify-data", self.store()])

    def list(self):
        return Work([self.program, "list", self.store()])

    def stream_command(self):
        # A new name for each archive.
        return [*self.create("stream-{now:%H%M%S}"), "-"]


class Bupstash(Tool):
    """bupstash with a key file."""

    wants_target = True

    def base(self, command, *options):
        place = ["--repository", self.store(), "--key", self.home / "key"]
        return [self.program, command, *place, "--quiet", *options]

    def init_commands(self):
        return [
            [self.program, "new-key", "--output", self.home / "key"],
            [self.program, "init", "--repository", self.store()],
        ]

    def put(self, name):
        return Work(self.base("put", "--send-log", self.home / "send-log", f"name={name}", "data"))

    def first(self):
        return self.put("first")

    def unchanged(self):
        return self.put("unchanged")

    def changed(self):
        return self.put("changed")

    def restore(self):
        return Work(self.base("restore", "--into", "restored", "name=changed"))

    def restored_root(self, target):
        return target

    def list(self):
        return Work(self.base("list"))

    def stream_command(self):
        return self.base("put", "--send-log", self.home / "send-log", "name=stream", "-")


class TarZstdAge(Tool):
    """`tar | zstd -3 | age` with a key pair: no deduplication, nothing incremental, and so every archive is whole."""

    # GNU tar's own format keeps whole seconds.
    mtime_step_ns = 1_000_000_000
    wants_target = True
    zstd_options = ("-3",)

    def prepare(self, home):
        super().prepare(home)
        self.store().mkdir()
        subprocess.run(["age-keygen", "-o", home / "key"], check=True, capture_output=True)
        shown = subprocess.run(["age-keygen", "-y", home / "key"], check=True, capture_output=True, text=True)
        self.recipient = shown.stdout.strip()

    def init_commands(self):
        return []

    def archive(self, name, is_timed):
        return Work(
            ["tar", "-cf", "-", "data"],
            ["zstd", *self.zstd_options, "-q", "-c"],
            ["age", "-r", self.recipient],
            stdout=self.store() / name,
            is_timed=is_timed,
        )

    def first(self):
        return self.archive("first", True)

    def changed(self):
        # Made so that it can be restored and counted; as an increment it would be no figure.
        return self.archive("changed", False)

    def restore(self):
        return Work(
            ["age", "-d", "-i", self.home / "key", self.store() / "changed"],
            ["zstd", "-d", "-q", "-c"],
            ["tar", "-xpf", "-", "-C", "restored"],
        )

    def version(self):
        names = [["tar", "--version"], ["zstd", "--version"], ["age", "--version"]]
        lines = [subprocess.run(command, capture_output=True, text=True, check=False).stdout for command in names]
        return ", ".join(line.strip().splitlines()[0].strip("* ") for line in lines)


class TarZstdAllCores(TarZstdAge):
    """The same with zstd on all cores."""

    zstd_options = ("-3", "-T0")


CLASSES = dict(zip(ALL_TOOLS, (
    Coffer, CofferNoExtraVerify, Restic, Rustic, Borg, Bupstash, TarZstdAge, TarZstdAllCores)))


def find_program(name, coffer, peers):
    if name.startswith("coffer"):
        return coffer.resolve() if coffer.exists() else shutil.which("coffer")
    if name.startswith("tar"):
        return "tar" if all(shutil.which(part) for part in ("tar", "zstd", "age", "age-keygen")) else None
    if peers and (peers / PLACES[name]).exists():
        return Path(peers / PLACES[name]).resolve() if name != "borg" else (peers / PLACES[name]).absolute()
    return shutil.which(name)


def find_tools(names, coffer, peers):
    """The tools that are there, coffer first, and the names of those that are not."""
    found, missing = [], []
    for name in (name for name in ALL_TOOLS if name in names):
        program = find_program(name, coffer, peers)
        if program:
            found.append(CLASSES[name](name, program))
        else:
            missing.append(name)
    return found, missing
