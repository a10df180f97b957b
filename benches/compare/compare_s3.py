#!/usr/bin/env python3
"""Runs coffer beside restic and rustic on the same S3 server over the same network, and beside a program that only moves the packs.

Server and tools are on one machine; a proxy between them makes every request wait for a round trip and counts requests by kind. Tools take
turns, a whole round each, with an empty bucket. Python's standard library is all it needs. README.md says how to run it.
"""

import argparse
import datetime
import json
import os
import platform
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import datasets
import peers
from compare import (
    SETTLE_SECONDS, Figures, Meter, StepFailed, check_restored, in_child, processor, table, tree_bytes)

BUCKET = "compare"
REGION = "us-east-1"
STEPS = [("first", "first backup"), ("unchanged", "unchanged again"), ("restore", "restore")]
# Moves the packs that coffer made, and does nothing else.
BARE = "bare transfer"
BARE_STEPS = {"send": "first", "fetch": "restore"}
SHARE_WANTED = 0.8
SERVER_HINT = "cargo install --locked s3s-fs --features binary"


class Server:
    """s3s-fs: checks signatures, keeps objects as files in a directory."""

    def __init__(self, program, work):
        self.root = work / "server"
        (self.root / BUCKET).mkdir(parents=True)
        self.keys = {"AWS_ACCESS_KEY_ID": "AK" + secrets.token_hex(9).upper(), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        command = [program, "--host", "127.0.0.1", "--port", str(port), "--access-key", self.keys["AWS_ACCESS_KEY_ID"],
                   "--secret-key", self.keys["AWS_SECRET_ACCESS_KEY"], self.root]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "RUST_LOG": "off"})
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit("the S3 server did not start")

    def stored(self, name):
        return self.root / BUCKET / name

    def forget(self, name):
        """Drops what a tool has stored, and what the server keeps beside it."""
        shutil.rmtree(self.stored(name), ignore_errors=True)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Network:
    """The proxy, between everybody and the server."""

    def __init__(self, program, server, round_trip_ms, options):
        rates = [str(round(rate * 1e6)) for rate in (options.upload_mb, options.download_mb)]
        self.process = subprocess.Popen(
            [program, server.address, str(round_trip_ms), *rates], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def reset(self):
        self.tell("reset")

    def totals(self):
        """Requests and bytes since the last reset, by kind."""
        self.tell("totals")
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class OverS3:
    """What tools have in common when their store is a bucket: `place` is where."""

    network = server = None

    def variables(self):
        return {**self.server.keys, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}

    def place(self):
        return f"s3:{self.network.endpoint}/{BUCKET}/{self.name}"

    def store(self):
        return self.place()


class Coffer(OverS3, peers.Coffer):
    def init_commands(self):
        # s3s-fs keeps the condition of a conditional create, but not in a race: init finds that out.
        *before, init = super().init_commands()
        return [*before, [*init, "--single-writer"]]


class Restic(OverS3, peers.Restic):
    pass


class Rustic(OverS3, peers.Rustic):
    """rustic by its opendal backend; what that needs to know goes into a profile."""

    def base(self):
        return [self.program, "-P", self.home / "profile", "--no-progress"]

    def init_commands(self):
        keys = self.server.keys
        (self.home / "profile.toml").write_text(
            "[repository]\n"
            'repository = "opendal:s3"\n'
            f'password-file = "{self.home}/password"\n'
            "[repository.options]\n"
            f'bucket = "{BUCKET}"\nroot = "/{self.name}"\nendpoint = "{self.network.endpoint}"\nregion = "{REGION}"\n'
            f'access_key_id = "{keys["AWS_ACCESS_KEY_ID"]}"\nsecret_access_key = "{keys["AWS_SECRET_ACCESS_KEY"]}"\n',
            encoding="utf-8")
        return [[*self.base(), "init"]]


CLASSES = {"coffer": Coffer, "restic": Restic, "rustic": Rustic}


class Round:
    """One tool, one round, one latency."""

    def __init__(self, tool, source, options, meter, network, note, failed):
        self.tool, self.source, self.options, self.meter, self.network = tool, source, options, meter, network
        self.note, self.failed = note, failed
        self.work = options.work

    def run(self):
        tool = self.tool
        tool.prepare(self.work / "tools" / tool.name)
        try:
            for command in tool.init_commands():
                self.meter.run([command], tool.environment, self.work)
            time.sleep(SETTLE_SECONDS)
            for step, _ in STEPS:
                self.step(step)
            if tool.name == "coffer":
                self.bare()
        except StepFailed as error:
            self.failed(tool.name, str(error))
        finally:
            shutil.rmtree(self.work / "restored", ignore_errors=True)
            shutil.rmtree(tool.home, ignore_errors=True)
            tool.server.forget(tool.name)

    def step(self, step):
        tool = self.tool
        work = tool.command(step)
        target = self.work / "restored"
        self.network.reset()
        entry = self.meter.run(work.pipeline, tool.environment, work.cwd or self.work, work.stdout)
        self.note(tool.name, step, {**entry, "requests": self.network.totals()})
        if step == "restore":
            count = check_restored(tool, self.source, tool.restored_root(target))
            if count:
                self.failed(tool.name, f"{count} differences between source and restored tree")

    def bare(self):
        """The packs that coffer made, through the same network: down, and up again under another name."""
        place, packs = self.work / "packs", self.work / "packs.json"
        url = self.tool.place()
        try:
            for direction, where in (("fetch", f"{url}/packs"), ("send", f"{url}-bare/packs")):
                entries = []
                for at_once in self.options.at_once.split(","):
                    if direction == "fetch":
                        shutil.rmtree(place, ignore_errors=True)
                    place.mkdir(exist_ok=True)
                    self.tool.server.forget(f"{self.tool.name}-bare")
                    command = [self.options.bare, direction, where, place, at_once]
                    self.network.reset()
                    entry = self.meter.run([command], self.tool.environment, self.work, packs)
                    # Its own clock: a program that does so little is not charged for its start.
                    said = json.loads(packs.read_text(encoding="utf-8"))
                    entries.append({**entry, **said, "requests": self.network.totals()})
                # How many at once are best is up to the machine.
                self.note(BARE, BARE_STEPS[direction], min(entries, key=lambda entry: entry["seconds"]))
        finally:
            shutil.rmtree(place, ignore_errors=True)
            self.tool.server.forget(f"{self.tool.name}-bare")


class Column:
    """The head of a column."""

    def __init__(self, name):
        self.name = name


def request_table(figures, columns, data):
    """How often each kind of request was made, in the last round; the same in each, but for a few."""
    lines = ["| requests | " + " | ".join(column.name for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for step, name in STEPS:
        totals = [(figures.sets[data].get(column.name, {}).get(step) or [{}])[-1].get("requests", {}) for column in columns]
        for kind in sorted({kind for total in totals for kind in total}):
            cells = [str(total[kind]["requests"]) if kind in total else "–" for total in totals]
            lines.append(f"| {name}: {kind} | " + " | ".join(cells) + " |")
        moved = []
        for total in totals:
            sent, received = (sum(part[field] for part in total.values()) for field in ("sent_bytes", "received_bytes"))
            moved.append(f"{sent / 1e6:.1f} / {received / 1e6:.1f}" if total else "–")
        lines.append(f"| {name}: MB up / down | " + " | ".join(moved) + " |")
    return "\n".join(lines) + "\n"


def shares(figures, data):
    """Which share of the bare transfer's rate coffer reaches; `None` where either is missing."""
    found = {}
    for step in BARE_STEPS.values():
        bare, ours = (figures.median(data, name, step, "seconds") for name in (BARE, "coffer"))
        found[step] = bare / ours if bare and ours else None
    return found


def report(figures, columns):
    parts = []
    for data in figures.sets:
        parts.append(f"## {data}\n")
        parts.append(table(figures, columns, data, "seconds", STEPS, "seconds", 1, 2))
        parts.append(table(figures, columns, data, "CPU seconds", STEPS, "cpu_seconds", 1, 2))
        parts.append(table(figures, columns, data, "peak memory, MB", STEPS, "peak_bytes", 1e6, 0))
        parts.append(request_table(figures, columns, data))
        names = dict(STEPS)
        lines = [f"{names[step]} {100 * share:.0f} %" for step, share in shares(figures, data).items() if share]
        if lines:
            parts.append(f"Of the rate of the bare transfer coffer reaches: {', '.join(lines)}.\n")
    return "\n".join(parts)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--coffer", type=Path, default=Path("target/release/coffer"), help="the program to measure; coffer-proxy and coffer-bare-transfer lie beside it")
    add("--peers", type=Path, help="folder with restic/, rustic/, s3s/; else they are taken from PATH")
    add("--server", type=Path, help="the S3 server, s3s-fs or one that takes the same options")
    add("--tools", default=",".join(CLASSES), help=f"which of {','.join(CLASSES)}")
    add("--round-trips", default="0,30", help="milliseconds that each request takes at least, one run for each")
    add("--upload-mb", type=float, default=0, help="cap in MB a second to the server; 0 for none")
    add("--download-mb", type=float, default=0, help="cap in MB a second from the server; 0 for none")
    add("--gb", type=float, default=2, help="length of the data, which does not compress")
    add("--at-once", default="8,32", help="objects that the bare transfer moves at once; of several numbers the fastest counts")
    add("--runs", type=int, default=3, help="rounds that count, of which medians are printed; one more is made before them")
    add("--place", type=Path, default=Path("/dev/shm"), help="where to work: a tmpfs with room for five times the data")
    add("--quick", action="store_true", help="a tenth of the data and one round, to try the script; never to publish")
    add("--json", type=Path, default=Path("compare-s3.json"), help="where raw figures go")
    add("--markdown", type=Path, help="where the tables go too")
    options = parser.parse_args()
    wrong = set(options.tools.split(",")) - set(CLASSES)
    if wrong:
        parser.error(f"not known: {', '.join(sorted(wrong))}")
    if options.quick:
        options.runs, options.gb = 1, options.gb / 10
    return options


def find_programs(options):
    """The tools that are there, and the programs that the comparison itself needs."""
    tools = []
    for name in options.tools.split(","):
        program = peers.find_program(name, options.coffer, options.peers)
        if program:
            tools.append(CLASSES[name](name, program))
        else:
            print(f"SKIPPED {name}: it is not there. To install it: {peers.HOW_TO_INSTALL[name]}")
    server = options.server or (options.peers and options.peers / "s3s/bin/s3s-fs")
    server = server.resolve() if server and server.exists() else shutil.which("s3s-fs")
    if not server:
        raise SystemExit(f"there is no S3 server: {SERVER_HINT}, or --server FILE")
    beside = options.coffer.resolve().parent
    options.bare, proxy = beside / "coffer-bare-transfer", beside / "coffer-proxy"
    if not options.bare.exists() or not proxy.exists():
        raise SystemExit("build them: cargo build --release -p coffer-cli -p coffer-benches")
    return tools, server, proxy


def main():
    options = arguments()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    tools, server_program, proxy_program = find_programs(options)
    if load > 0.3 * cores:
        print(f"warning: the machine is busy (load {load:.1f} on {cores} cores); these figures are not worth much")
    options.work = Path(tempfile.mkdtemp(prefix="coffer-compare-s3-", dir=options.place))
    figures, failures = Figures(), []
    meter = Meter(options.work / "log")
    server = None
    try:
        source = options.work / "data"
        data = datasets.make("random", None, options.gb * 1e9 / (1 << 30))
        if in_child(lambda: data.make(source)) != 0:
            raise SystemExit("the data could not be made")
        size = tree_bytes(source)
        server = Server(server_program, options.work)
        for round_trip_ms in map(int, options.round_trips.split(",")):
            name = f"{size / 1e9:.2f} GB at {round_trip_ms} ms"
            figures.sets.setdefault(name, {})
            network = Network(proxy_program, server, round_trip_ms, options)
            for number in range(0 if options.quick else -1, options.runs):
                # In another order each time: who comes first meets another machine.
                for tool in random.Random(f"{round_trip_ms} {number}").sample(tools, len(tools)):
                    which = f"round {number + 1} of {options.runs}" if number >= 0 else "a round to warm up"
                    print(f"{name}: {which}: {tool.name}", flush=True)
                    tool.network, tool.server = network, server

                    def note(column, step, entry, name=name, number=number):
                        if number >= 0:
                            figures.add(name, column, step, {**entry, "round": number})

                    def failed(tool, reason, name=name):
                        print(f"  {tool}: {reason}", flush=True)
                        failures.append({"data": name, "tool": tool, "reason": reason})

                    Round(tool, source, options, meter, network, note, failed).run()
            network.stop()
    finally:
        if server:
            server.stop()
        shutil.rmtree(options.work, ignore_errors=True)
    columns = [*tools, Column(BARE)]
    raw = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cores": cores, "kernel": platform.release(), "load_before": load},
        "runs": options.runs, "quick": options.quick, "at_once": options.at_once,
        "rates_mb": {"up": options.upload_mb, "down": options.download_mb},
        "versions": {tool.name: tool.version() for tool in tools},
        "commands": {tool.name: tool.shown for tool in tools},
        "failures": failures, "figures": figures.sets,
    }
    options.json.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    head = (f"{raw['date'][:10]}, {raw['machine']['processor']}, {cores} cores, Linux {raw['machine']['kernel']}; server, proxy and tools on "
            f"one machine; {options.runs} rounds, medians; in brackets the ratio to coffer.\n\n"
            + "\n".join(f"- {name}: {version}" for name, version in raw["versions"].items()) + "\n")
    text = f"{head}\n{report(figures, columns)}"
    print("\n" + text)
    if options.quick:
        print("Quick: a tenth of the data, one round. Not for publication.")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    for failure in failures:
        print(f"FAILED {failure['tool']} {failure['data']}: {failure['reason'].splitlines()[0]}")
    below = [f"{step} in {data}" for data in figures.sets for step, share in shares(figures, data).items()
             if share and share < SHARE_WANTED]
    if below:
        print(f"below {100 * SHARE_WANTED:.0f} % of the bare transfer: {', '.join(below)}")
    raise SystemExit(1 if any(failure["tool"] == "coffer" for failure in failures) else 0)


if __name__ == "__main__":
    main()
