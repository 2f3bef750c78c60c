"""tools/bench.py with programs that only say they have measured: what it prints, keeps and returns."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GOOD = [
    {"cpu_capability": "AVX9"},
    {"what": "a step", "unit": "us", "ours": 30.0, "peer": "bare loop", "theirs": 40.0, "judged": "ours/peer", "value": 0.75,
     "sign": "<=", "limit": 0.95, "met": True},
    {"what": "a long step", "unit": "us", "ours": 1250.0, "peer": "by hand", "theirs": 1240.0},
    {"what": "a call", "unit": "ns", "ours": 60.0, "judged": "ours", "value": 60.0, "sign": "<=", "limit": 50.0, "met": False},
    {"remark": "a framework is not installed"},
]


class Bench(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        # The tool describes the tree that it stands in, and makes its Python environment there.
        self.root = Path(scratch.name)
        (self.root / "tools").mkdir()
        (self.root / "tools/bench.py").write_text((ROOT / "tools/bench.py").read_text())
        self.folder = self.root / "build/benches"
        self.folder.mkdir(parents=True)

    def program(self, name, entries, status=0):
        lines = "".join(f"echo '{json.dumps(entry)}' >> $TREADLE_BENCH_RESULTS\n" for entry in entries)
        file = self.folder / f"bench_{name}"
        file.write_text(f"#!/bin/sh\n{lines}exit {status}\n")
        file.chmod(0o755)

    def bench(self, *words):
        command = [sys.executable, self.root / "tools/bench.py", *words]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"QUICK": ""})

    def cells(self, text, what):
        line = next(line for line in text.splitlines() if line.startswith(f"| {what} "))
        return [cell.strip() for cell in line.strip("|").split("|")]

    def test_ends_with_the_table(self):
        self.program("engine", GOOD)
        ended = self.bench(self.folder, "engine")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        for text in (ended.stdout, (self.folder / "results.md").read_text()):
            self.assertEqual(self.cells(text, "a step"),
                             ["a step", "30 us", "bare loop: 40 us", "0.75", "-10 us", "ours/peer <= 0.95", "met"])
            self.assertEqual(self.cells(text, "a long step")[3:], ["1.01", "10 us", "", ""])
            self.assertEqual(self.cells(text, "a call")[2:], ["", "", "", "<= 50", "**missed**"])
            self.assertIn("- The loop: a framework is not installed", text)
            self.assertIn("1 of 2 figures that have a target meet it.", text)
            self.assertIn("AVX9", text)

    def test_a_program_that_fails_is_named_and_keeps_its_rows(self):
        self.program("engine", GOOD)
        self.program("solver", GOOD[:2], status=3)
        ended = self.bench(self.folder, "solver", "engine")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("bench: failed: solver", ended.stderr)
        self.assertIn("Rows are missing: bench_solver failed.", ended.stdout)
        results = json.loads((self.folder / "results.json").read_text())
        self.assertEqual(results["failed"], ["solver"])
        self.assertEqual(results["benches"]["solver"], GOOD[1:2])

    def test_the_build_is_described_by_its_own_cache(self):
        compiler = self.root / "own-c++"
        compiler.write_text("#!/bin/sh\necho 'own-c++ 77.1'\n")
        compiler.chmod(0o755)
        headers = self.root / "torch/include"
        (headers / "torch/headeronly").mkdir(parents=True)
        (headers / "torch/headeronly/version.h").write_text(
            "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 91\n#define TORCH_VERSION_PATCH 4\n")
        (self.root / "build/CMakeCache.txt").write_text(
            f"CMAKE_BUILD_TYPE:STRING=Release\nCMAKE_CXX_COMPILER:FILEPATH={compiler}\nLibTorch_INCLUDE_DIR:PATH={headers}\n")
        self.program("engine", GOOD)
        text = self.bench(self.folder, "engine").stdout
        self.assertIn("own-c++ 77.1, build type Release; torch 2.91.4;", text)

    def test_changes_that_are_not_committed_are_marked(self):
        def git(*words):
            subprocess.run(["git", "-C", self.root, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True,
                           capture_output=True)

        git("init")
        git("add", "tools")
        git("commit", "-m", "first")
        self.program("engine", GOOD)
        self.assertRegex(self.bench(self.folder, "engine").stdout, r"commit [0-9a-f]{7,};")
        with (self.root / "tools/bench.py").open("a") as file:
            file.write("\n")
        self.assertRegex(self.bench(self.folder, "engine").stdout, r"commit [0-9a-f]{7,} with changes;")

    def test_figures_are_the_rows_with_a_target(self):
        more = {"what": "more", "unit": "us", "ours": 3.0, "peer": "by hand", "theirs": 2.0, "judged": "ours-peer",
                "value": 1.0, "sign": "<=", "limit": 2.0, "met": True}
        self.program("engine", [*GOOD, more])
        self.bench(self.folder, "engine")
        text = self.bench("--figures", self.folder / "results.json").stdout
        self.assertEqual(self.cells(text, "what"), ["what", "ours", "peer", "ratio or difference", "asked", "met"])
        self.assertEqual(self.cells(text, "a step"),
                         ["a step", "30 us", "bare loop: 40 us", "0.75", "ours/peer <= 0.95", "yes"])
        self.assertEqual(self.cells(text, "a call"), ["a call", "60 ns", "", "", "<= 50", "**no**"])
        self.assertEqual(self.cells(text, "more")[3:], ["1 us", "ours-peer <= 2", "yes"])
        self.assertNotIn("a long step", text)
        self.assertIn("2 of 3 figures that have a target meet it.", text)


if __name__ == "__main__":
    unittest.main()
