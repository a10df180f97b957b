#!/usr/bin/env python3
"""Runs coffer beside its peers on the same data, in one run, and prints Markdown tables and raw figures.

Tools take turns within each step of each round, in another order each time, so that what else the machine does hits all of them alike. What is
published is the median of the rounds, the median of the ratios to coffer within each round, and how far those reach. On a virtual machine
memory that was never used is slow, so most of it is used once before anything is measured, and a whole round more than are counted is made.
Everything lies on tmpfs, so processors are measured and not a disk.
Python's standard library is all it needs. README.md says how to run it.
"""

import argparse
import datetime
import filecmp
import json
import os
import platform
import random
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets
from peers import ALL_TOOLS, HOW_TO_INSTALL, find_tools

# Longer than a stat fingerprint has to be old before coffer (2 s) trusts it; others need less.
SETTLE_SECONDS = 2.5

STEPS = [
    ("first", "first backup"),
    ("unchanged", "unchanged again"),
    ("changed", "1 % changed"),
    ("restore", "restore"),
    ("keyless", "verify, no key"),
    ("deep", "verify all data"),
    ("list", "list snapshots"),
    ("unlock", "key derivation alone"),
]


STREAM_STEPS = [
    ("stream", "backup"),
    ("stream_restore", "read back"),
    ("stream_keyless", "verify, no key"),
    ("stream_deep", "verify all data"),
]


class StepFailed(Exception):
    """A command of a tool ended with an error."""


class Meter:
    """Starts commands and measures them, with all their children, from outside."""

    def __init__(self, logs):
        self.logs = logs

    def run(self, pipeline, environment, cwd, stdout=None, stdin=None, counted=None):
        """Runs one command, or several joined by pipes: seconds, CPU seconds, and the sum of the peaks of memory; of the first `counted`, or of all."""
        children = []
        with open(self.logs, "wb") as log:
            source = open(stdin, "rb") if stdin else subprocess.DEVNULL
            begun = time.monotonic()
            for number, command in enumerate(pipeline):
                last = number + 1 == len(pipeline)
                sink = (open(stdout, "wb") if stdout else log) if last else subprocess.PIPE
                child = subprocess.Popen(
                    command, stdin=source, stdout=sink, stderr=log, env=environment, cwd=cwd)
                if source is not subprocess.DEVNULL:
                    source.close()
                if last and stdout:
                    sink.close()
                source = child.stdout
                children.append(child)
            cpu = peak = 0
            failed = None
            for number, (child, command) in enumerate(zip(children, pipeline)):
                # The figures of wait4 take in every descendant that the child has waited for.
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                if counted is None or number < counted:
                    cpu += usage.ru_utime + usage.ru_stime
                    peak += usage.ru_maxrss * 1024
                if child.returncode != 0:
                    failed = failed or (command, child.returncode)
            seconds = time.monotonic() - begun
        if failed:
            with open(self.logs, "rb") as log:
                tail = log.read()[-2000:].decode(errors="replace")
            raise StepFailed(f"{' '.join(map(str, failed[0]))} ended with {failed[1]}:\n{tail}")
        return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak}


def in_child(work):
    """Does `work` in a process of its own.

    A new process begins with the peak of memory of the one that started it, so this one has to stay small.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = int(work() or 0)
        except BaseException as error:  # pylint: disable=broad-except
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def tree_bytes(path):
    """The length of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for root, _, names in os.walk(path):
        total += sum(os.lstat(os.path.join(root, name)).st_size for name in names)
    return total


def listed(root):
    """Relative path to status of everything below `root`."""
    found = {}
    pending = [""]
    while pending:
        at = pending.pop()
        with os.scandir(os.path.join(root, at)) as entries:
            for entry in entries:
                path = os.path.join(at, entry.name)
                found[path] = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
    return found


def differences(source, restored, mtime_step_ns):
    """What is not the same in two trees: paths, kinds, permissions, times of change, contents."""
    ours, theirs = listed(source), listed(restored)
    found = [f"{path}: only in the source" for path in sorted(ours.keys() - theirs.keys())]
    found += [f"{path}: only in what was restored" for path in sorted(theirs.keys() - ours.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        one, other = ours[path], theirs[path]
        left, right = os.path.join(source, path), os.path.join(restored, path)
        if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
            found.append(f"{path}: another kind of entry")
        elif stat.S_ISLNK(one.st_mode):
            if os.readlink(left) != os.readlink(right):
                found.append(f"{path}: another link")
        else:
            if stat.S_IMODE(one.st_mode) != stat.S_IMODE(other.st_mode):
                found.append(f"{path}: mode {oct(one.st_mode)} became {oct(other.st_mode)}")
            if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid):
                found.append(f"{path}: owner {one.st_uid}:{one.st_gid} became {other.st_uid}:{other.st_gid}")
            if attributes(left) != attributes(right):
                found.append(f"{path}: other extended attributes")
            if one.st_mtime_ns // mtime_step_ns != other.st_mtime_ns // mtime_step_ns:
                found.append(f"{path}: time {one.st_mtime_ns} became {other.st_mtime_ns}")
            if stat.S_ISREG(one.st_mode) and not filecmp.cmp(left, right, shallow=False):
                found.append(f"{path}: other content")
    names, others = linked(ours), linked(theirs)
    found += [f"{path}: another hard link" for path in sorted(ours.keys() & theirs.keys()) if names[path] != others[path]]
    return found


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def linked(entries):
    """For each path the first one that is the same file."""
    first = {}
    return {path: first.setdefault((found.st_dev, found.st_ino), path) for path, found in sorted(entries.items())}


def check_restored(tool, source, restored):
    """Prints the first differences; their number, up to 100."""
    def compare():
        found = differences(source, restored, tool.mtime_step_ns)
        for line in found[:5]:
            print(f"    {tool.name}: {line}")
        return min(len(found), 100)

    return in_child(compare)


class Figures:
    """What was measured: data set, tool, step, one entry for each round."""

    def __init__(self):
        self.sets = {}

    def add(self, data, tool, step, entry):
        self.sets.setdefault(data, {}).setdefault(tool, {}).setdefault(step, []).append(entry)

    def median(self, data, tool, step, field):
        entries = self.sets.get(data, {}).get(tool, {}).get(step, [])
        values = [entry[field] for entry in entries if field in entry]
        return statistics.median(values) if values else None

    def ratios(self, data, tool, step, field):
        """Of each round in which both were measured: this tool's figure beside coffer's."""
        ours, theirs = (self.sets.get(data, {}).get(name, {}).get(step, []) for name in ("coffer", tool))
        pairs = {entry.get("round"): entry.get(field) for entry in ours}
        both = [(entry.get(field), pairs.get(entry.get("round"))) for entry in theirs]
        return [their / our for their, our in both if their is not None and our]


def use_memory(place):
    """Writes to most of what tmpfs and memory have free, and frees it again: a host gives memory to a virtual machine when it is first used."""
    available = shutil.disk_usage(place).free
    with open("/proc/meminfo", encoding="ascii") as lines:
        values = dict(line.split(":", 1) for line in lines)
    available = min(available, int(values["MemAvailable"].split()[0]) * 1024)
    block = bytes(16 << 20)
    path = place / "memory"
    with open(path, "wb", buffering=0) as file:
        for _ in range(available * 3 // 4 // len(block)):
            file.write(block)
    path.unlink()


def measure(tools, data, options, meter, figures, failures):
    """All rounds of one data set."""
    work = options.work
    source = work / "data"
    print(f"\n{data.name}: making the data ...", flush=True)
    if in_child(lambda: data.make(source)) != 0:
        raise SystemExit(f"the data set {data.name} could not be made")
    size = tree_bytes(source)
    print(f"{data.name}: {size / 1e6:.0f} MB", flush=True)
    figures.sets.setdefault(data.name, {})
    free = shutil.disk_usage(work).free
    # Stores are at most as large as the data, each twice for tools without deduplication, and one restore at a time.
    side_by_side = free > size * (len(tools) + 3)
    groups = [tools] if side_by_side else [[tool] for tool in tools]
    for number in range(0 if options.quick else -1, options.runs):
        # What the round before those that count shows is thrown away.
        kept = figures if number >= 0 else Figures()
        for group in groups:
            print(f"{data.name}: " + (f"round {number + 1} of {options.runs}" if number >= 0 else "a round to warm up"), flush=True)
            Round(number, group, data, source, options, meter, kept, failures).run()
    shutil.rmtree(source)


class Round:
    """One round: every step, and in each step every tool."""

    def __init__(self, number, tools, data, source, options, meter, figures, failures):
        self.number, self.tools, self.data, self.source = number, list(tools), data, source
        self.work, self.meter, self.figures, self.failures = options.work, meter, figures, failures

    def run(self):
        for tool in self.tools:
            tool.prepare(self.work / "tools" / tool.name)
            for command in tool.init_commands():
                self.meter.run([command], tool.environment, self.work)
        time.sleep(SETTLE_SECONDS)
        self.step("first")
        self.stored("first")
        self.step("unchanged")
        undo = self.work / "undo"
        if in_child(lambda: self.data.change(self.source, undo)) != 0:
            raise SystemExit("the data could not be changed")
        time.sleep(SETTLE_SECONDS)
        self.step("changed")
        self.stored("changed")
        self.step("restore")
        for step in ("keyless", "deep", "list", "unlock"):
            self.step(step)
        if in_child(lambda: self.data.undo(self.source, undo)) != 0:
            raise SystemExit("the data could not be changed back")
        for tool in self.tools:
            shutil.rmtree(tool.home)

    def order(self, step):
        """The tools in an order that is another one in each round and step, and the same in each run."""
        return random.Random(f"{self.data.name} {self.number} {step}").sample(self.tools, len(self.tools))

    def step(self, step):
        for tool in self.order(step):
            work = tool.command(step)
            if work is None:
                continue
            target = self.work / "restored"
            if step == "restore":
                shutil.rmtree(target, ignore_errors=True)
                if tool.wants_target:
                    target.mkdir()
            try:
                entry = self.meter.run(work.pipeline, tool.environment, work.cwd or self.work, work.stdout)
            except StepFailed as error:
                self.fail(tool, step, str(error))
                continue
            if work.is_timed:
                self.figures.add(self.data.name, tool.name, step, {**entry, "round": self.number})
            if step == "restore":
                count = check_restored(tool, self.source, tool.restored_root(target))
                shutil.rmtree(target)
                if count:
                    self.fail(tool, step, f"{count} differences between source and restored tree", False)

    def fail(self, tool, step, reason, drop=True):
        print(f"  {tool.name}: {step}: {reason}", flush=True)
        self.failures.append({"data": self.data.name, "tool": tool.name, "step": step, "reason": reason})
        if drop:
            self.tools.remove(tool)
            shutil.rmtree(tool.home, ignore_errors=True)

    def stored(self, step):
        for tool in self.tools:
            entry = {"stored_bytes": tree_bytes(tool.store()), "round": self.number}
            self.figures.add(self.data.name, tool.name, f"stored_{step}", entry)


def measure_stream(tools, options, meter, figures, failures):
    """A long stream from standard input, and what was made of it read back: what counts is that memory does not grow."""
    for tool in tools:
        if tool.stream_command() is None:
            continue
        # Small and large side by side: flat memory is a statement about two lengths.
        for length, end in ((options.stream_bytes // 50, "_short"), (options.stream_bytes, "")):
            print(f"stream: {tool.name}: {length / 1e9:.1f} GB", flush=True)
            tool.prepare(options.work / "tools" / tool.name)
            try:
                for command in tool.init_commands():
                    meter.run([command], tool.environment, options.work)
                for step, entry in stream_steps(tool, length, options, meter):
                    figures.add("stream", tool.name, step + end, {**entry, "round": 0})
            except StepFailed as error:
                failures.append({"data": "stream", "tool": tool.name, "step": "stream" + end, "reason": str(error)})
                print(error)
                break
            finally:
                shutil.rmtree(tool.home, ignore_errors=True)


def stream_steps(tool, length, options, meter):
    """Each step that the tool has, with its figures."""
    generator = [sys.executable, str(Path(datasets.__file__)), str(length)]
    with subprocess.Popen(generator, stdout=subprocess.PIPE) as producer:
        source = f"/proc/self/fd/{producer.stdout.fileno()}"
        entry = meter.run([tool.stream_command()], tool.environment, options.work, stdin=source)
        producer.stdout.close()
        if producer.wait() != 0:
            raise StepFailed("the stream was not read to its end")
    yield "stream", {**entry, "stored_bytes": tree_bytes(tool.store())}
    command = tool.stream_restore_command()
    if command is not None:
        # The digest is taken by a program of its own, which is not counted.
        digest, made = options.work / "digest", options.work / "made"
        with open(made, "wb") as out, subprocess.Popen(generator, stdout=subprocess.PIPE) as producer:
            subprocess.run(["sha256sum"], stdin=producer.stdout, stdout=out, check=True)
        yield "stream_restore", meter.run([command, ["sha256sum"]], tool.environment, options.work, digest, counted=1)
        if digest.read_bytes() != made.read_bytes():
            raise StepFailed("what was read back is not the stream")
    for step in ("keyless", "deep"):
        work = tool.command(step)
        if work is not None:
            yield f"stream_{step}", meter.run(work.pipeline, tool.environment, work.cwd or options.work, work.stdout)


def cell(value, unit, ratios, digits, floor):
    if value is None:
        return "–"
    if value <= floor:
        return f"≤ {floor / unit:.{digits}f}"
    text = f"{value / unit:.{digits}f}"
    return f"{text} ({statistics.median(ratios):.2f})" if ratios else text


def table(figures, tools, data, title, rows, field, unit, digits, floor=0):
    """A table with a column for each tool; in brackets the ratio to coffer. What is at the floor is not known any better."""
    lines = [f"| {title} | " + " | ".join(tool.name for tool in tools) + " |", "|---" * (len(tools) + 1) + "|"]
    for step, name in rows:
        reference = figures.median(data, "coffer", step, field)
        is_known = reference is not None and reference > floor
        values = [figures.median(data, tool.name, step, field) for tool in tools]
        if any(value is not None for value in values):
            ratios = [figures.ratios(data, tool.name, step, field) if is_known else [] for tool in tools]
            cells = [cell(value, unit, ratio, digits, floor) for value, ratio in zip(values, ratios)]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def range_table(figures, tools, data, rows):
    """The least and the greatest ratio of seconds to coffer's in a round."""
    others = [tool for tool in tools if tool.name != "coffer"]
    lines = ["| ratios in a round, from, to | " + " | ".join(tool.name for tool in others) + " |", "|---" * (len(others) + 1) + "|"]
    for step, name in rows:
        found = [figures.ratios(data, tool.name, step, "seconds") for tool in others]
        if any(found):
            cells = [f"{min(ratios):.2f}, {max(ratios):.2f}" if ratios else "–" for ratios in found]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def report(figures, tools, cores, floor):
    """All tables as Markdown."""
    parts = []
    for data in figures.sets:
        parts.append(f"## {data}\n")
        if data == "stream":
            rows = [(f"{step}{end}", f"{name}, {text}") for step, name in STREAM_STEPS
                    for end, text in (("_short", "2 % of the stream"), ("", "the stream"))]
            parts.append(table(figures, tools, data, "seconds", rows, "seconds", 1, 1))
            parts.append(table(figures, tools, data, "CPU seconds", rows, "cpu_seconds", 1, 1))
            parts.append(table(figures, tools, data, "stored, MB", rows, "stored_bytes", 1e6, 1))
            parts.append(table(figures, tools, data, "peak memory, MB", rows, "peak_bytes", 1e6, 0, floor))
            continue
        parts.append(table(figures, tools, data, "seconds", STEPS, "seconds", 1, 3))
        parts.append(range_table(figures, tools, data, STEPS))
        stored = [("stored_first", "stored after the first"), ("stored_changed", "stored after all")]
        parts.append(table(figures, tools, data, "MB", stored, "stored_bytes", 1e6, 1))
        parts.append(table(figures, tools, data, "CPU seconds", STEPS, "cpu_seconds", 1, 3))
        parts.append(table(figures, tools, data, "peak memory, MB", STEPS, "peak_bytes", 1e6, 0, floor))
        busy = []
        for step, name in STEPS:
            wall = figures.median(data, "coffer", step, "seconds")
            cpu = figures.median(data, "coffer", step, "cpu_seconds")
            if wall:
                busy.append(f"{name} {100 * cpu / wall / cores:.0f} %")
        parts.append(f"coffer kept {cores} cores busy: {', '.join(busy)}.\n")
    return "\n".join(parts)


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coffer", type=Path, default=Path("target/release/coffer"), help="the program to measure")
    parser.add_argument("--peers", type=Path, help="folder with restic/, rustic/, borg/, bupstash/; else they are taken from PATH")
    parser.add_argument("--tools", default=",".join(ALL_TOOLS), help=f"which of {','.join(ALL_TOOLS)}")
    parser.add_argument("--data", default="source,random,json,big", help=f"which of {','.join(datasets.NAMES)}")
    parser.add_argument("--source", type=Path, default=Path.home() / ".cargo/registry/src", help="directory that `source` is a copy of")
    parser.add_argument("--runs", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--place", type=Path, default=Path("/dev/shm"), help="where to work: a tmpfs")
    parser.add_argument("--stream-gb", type=float, default=50, help="length of `stream`")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data and one round, to try the script; never to publish")
    parser.add_argument("--json", type=Path, default=Path("compare.json"), help="where raw figures go")
    parser.add_argument("--markdown", type=Path, help="where the tables go too")
    options = parser.parse_args()
    wrong = set(options.tools.split(",")) - set(ALL_TOOLS) | set(options.data.split(",")) - set(datasets.NAMES)
    if wrong:
        parser.error(f"not known: {', '.join(sorted(wrong))}")
    if options.quick:
        options.runs = 1
    options.stream_bytes = int(options.stream_gb * 1e9 * (0.1 if options.quick else 1))
    return options


def main():
    options = arguments()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    tools, missing = find_tools(options.tools.split(","), options.coffer, options.peers)
    for name in missing:
        print(f"{name} is not there. To install it: {HOW_TO_INSTALL[name]}")
    if "coffer" not in [tool.name for tool in tools]:
        raise SystemExit("nothing to compare without coffer")
    if load > 0.3 * cores:
        print(f"warning: the machine is busy (load {load:.1f} on {cores} cores); these figures are not worth much")
    options.work = Path(tempfile.mkdtemp(prefix="coffer-compare-", dir=options.place))
    figures, failures = Figures(), []
    meter = Meter(options.work / "log")
    floor = meter.run([["true"]], dict(os.environ), options.work)["peak_bytes"]
    try:
        if not options.quick and in_child(lambda: use_memory(options.work)) != 0:
            raise SystemExit(f"{options.place} could not be filled for a moment")
        for name in options.data.split(","):
            if name == "stream":
                measure_stream(tools, options, meter, figures, failures)
            else:
                data = datasets.make(name, options.source, 0.1 if options.quick else 1)
                measure(tools, data, options, meter, figures, failures)
    finally:
        shutil.rmtree(options.work, ignore_errors=True)
    raw = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cores": cores, "kernel": platform.release(), "load_before": load,
                    "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")},
        "command": sys.argv,
        "runs": options.runs,
        "quick": options.quick,
        "peak_bytes_floor": floor,
        "versions": {tool.name: tool.version() for tool in tools},
        "commands": {tool.name: tool.shown for tool in tools},
        "missing": missing,
        "failures": failures,
        "figures": figures.sets,
    }
    options.json.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    head = (f"{raw['date'][:10]}, {raw['machine']['processor']}, {cores} cores, Linux {raw['machine']['kernel']}; "
            f"{options.runs} runs, medians; in brackets the ratio to coffer.\n\n"
            + "\n".join(f"- {name}: {version}" for name, version in raw["versions"].items()) + "\n")
    text = f"{head}\n{report(figures, tools, cores, floor * 1.03)}"
    print("\n" + text)
    if options.quick:
        print("Quick: a tenth of the data, one round. Not for publication.")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    for failure in failures:
        print(f"FAILED {failure['tool']} {failure['data']} {failure['step']}: {failure['reason'].splitlines()[0]}")
    raise SystemExit(1 if any(failure["tool"].startswith("coffer") for failure in failures) else 0)


if __name__ == "__main__":
    main()
