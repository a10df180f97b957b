"""What the comparison rests on: `python3 -m unittest` in this directory."""

import os
import tempfile
import unittest
from pathlib import Path

import compare
import datasets


class Trees(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)

    def tree(self, name):
        root = self.place / name
        (root / "a").mkdir(parents=True)
        (root / "a/file").write_bytes(b"content")
        (root / "link").symlink_to("a/file")
        for path in (root / "a/file", root / "a"):
            os.utime(path, ns=(5, 1_000_000_007))
        return root

    def check(self, change, expected, step=1):
        one, other = self.tree("one"), self.tree("other")
        change(other)
        found = compare.differences(one, other, step)
        self.assertEqual(sorted(line.split(" ")[0] for line in found), expected)

    def test_the_same_trees_are_the_same(self):
        self.check(lambda root: None, [])

    def test_content(self):
        def change(root):
            (root / "a/file").write_bytes(b"Content")
            os.utime(root / "a/file", ns=(5, 1_000_000_007))
        self.check(change, ["a/file:"])

    def test_mode(self):
        self.check(lambda root: (root / "a/file").chmod(0o600), ["a/file:"])

    def test_times_in_the_steps_that_a_tool_keeps(self):
        self.check(lambda root: os.utime(root / "a/file", ns=(5, 1_000_000_000)), ["a/file:"])
        for name in ("one", "other"):
            for path in sorted((self.place / name).rglob("*"), reverse=True):
                path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
            (self.place / name).rmdir()
        self.check(lambda root: os.utime(root / "a/file", ns=(5, 1_000_000_000)), [], 1_000_000_000)

    def test_missing_and_surplus(self):
        def change(root):
            (root / "link").unlink()
            (root / "more").write_bytes(b"")
        self.check(change, ["link:", "more:"])

    def test_another_link(self):
        def change(root):
            (root / "link").unlink()
            (root / "link").symlink_to("a")
        self.check(change, ["link:"])

    def test_changes_are_about_one_in_a_hundred_and_are_undone(self):
        data = datasets.make("json", None, 0.01)
        root, before, undo = self.place / "data", self.place / "before", self.place / "undo"
        data.make(root)
        data.make(before)
        self.assertEqual(compare.differences(root, before, 1), [])
        data.change(root, undo)
        changed = {line.split(":")[0] for line in compare.differences(root, before, 1)}
        self.assertEqual(len(changed), 10)
        data.undo(root, undo)
        # Directories of files that were replaced have another time.
        left = [line for line in compare.differences(root, before, 1) if ".json" in line]
        self.assertEqual(left, [])

    def test_the_big_file_is_changed_back(self):
        data = datasets.make("big", None, 128 / 4096)
        root, undo = self.place / "data", self.place / "undo"
        data.make(root)
        before = (root / "image").read_bytes()
        data.change(root, undo)
        changed = (root / "image").read_bytes()
        self.assertEqual(len(changed), len(before))
        self.assertFalse(changed == before)
        data.undo(root, undo)
        self.assertTrue((root / "image").read_bytes() == before)


class Measuring(unittest.TestCase):
    def test_children_are_counted_and_failures_seen(self):
        with tempfile.TemporaryDirectory() as place:
            meter = compare.Meter(Path(place) / "log")
            busy = ["sh", "-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'"]
            entry = meter.run([busy], dict(os.environ), place)
            self.assertGreater(entry["cpu_seconds"], 0.02)
            with self.assertRaises(compare.StepFailed):
                meter.run([["sh", "-c", "exit 3"], ["cat"]], dict(os.environ), place)


if __name__ == "__main__":
    unittest.main()
