"""tools/stress.py with programs that only play a test: what counts as passed, and that nothing outlives its limit."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASSED = "echo '[==========] 1 test from 1 test suite ran. (3 ms total)'\n"
NOTHING = "echo '[==========] 0 tests from 0 test suites ran. (0 ms total)'\n"


class Stress(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        # The tool works in the tree that it stands in.
        self.root = Path(scratch.name)
        for folder in ("tools", "bin", "build/release/tests"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "tools/stress.py").write_text((ROOT / "tools/stress.py").read_text())

    def script(self, file, text):
        (self.root / file).write_text("#!/bin/sh\n" + text)
        (self.root / file).chmod(0o755)

    def stress(self, **variables):
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "SEED": "5", **variables}
        command = [sys.executable, self.root / "tools/stress.py", self.root / "build/release"]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        return ended.returncode, ended.stdout

    def test_counts_in_batches_with_another_seed_each(self):
        self.script("build/release/tests/test_launch_trials", PASSED + f"echo $TRIALS $TREADLE_SEED >> {self.root}/calls\n")
        status, said = self.stress(ONLY="a rank or the launcher", TRIALS="12")
        self.assertEqual(status, 0, said)
        self.assertIn("12 of 12 kills", said)
        self.assertEqual((self.root / "calls").read_text(), "5 5\n5 10\n2 15\n")

    def test_what_takes_long_makes_a_part_of_the_count(self):
        self.script("build/release/tests/test_app_distributed_trials", PASSED + f"echo $TRIALS >> {self.root}/calls\n")
        status, said = self.stress(ONLY="three ranks train", TRIALS="16")
        self.assertEqual(status, 0, said)
        self.assertIn("8 of 8 kills", said)
        self.assertEqual((self.root / "calls").read_text(), "6\n2\n")
        self.assertIn("1 of 1 kills", self.stress(ONLY="three ranks train", TRIALS="1")[1])

    def test_a_filter_that_fits_nothing_is_no_success(self):
        self.script("build/release/tests/test_checkpoint", NOTHING)
        status, said = self.stress(ONLY="power loss")
        self.assertEqual(status, 1, said)
        self.assertIn("did not run", said)

    def test_skipped_and_failed_are_no_success(self):
        for end, word in ((77, "did not run"), (1, "FAILED with status 1"), (139, "FAILED with status 139")):
            self.script("build/release/tests/test_checkpoint", f"echo why; exit {end}\n")
            status, said = self.stress(ONLY="power loss")
            self.assertEqual(status, 1, said)
            self.assertIn(word, said)

    def assert_ended(self, pid):
        """A process that was killed may stay for a moment until somebody asks for its status."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                    return
            except OSError:
                return
        self.fail("a process outlives the limit")

    def test_a_trial_ends_at_its_limit_with_what_it_started(self):
        self.script("build/release/tests/test_checkpoint", f"sleep 1000 & echo $! > {self.root}/child\nwait\n")
        status, said = self.stress(ONLY="power loss", LIMIT="1")
        self.assertEqual(status, 1, said)
        self.assertIn("out of time", said)
        self.assert_ended(int((self.root / "child").read_text()))

    def test_a_preset_gets_the_counts_and_ends_at_its_limit(self):
        self.script("bin/cmake", f"echo \"$@\" >> {self.root}/calls\n")
        self.script("bin/ctest", f"echo $TREADLE_STRESS $TRIALS $TREADLE_FUZZ_INPUTS $TREADLE_SEED $TREADLE_FUZZ_SEED >> "
                    f"{self.root}/calls\n"
                    "[ $TRIALS = 3 ] || sleep 1000\n")
        status, said = self.stress(ONLY="no trial", BUILDS="1", TRIALS="3", INPUTS="70")
        self.assertEqual(status, 0, said)
        self.assertEqual((self.root / "calls").read_text(), "".join(
            f"--preset {preset}\n--build --preset {preset}\n1 3 70 5 5\n" for preset in ("clang", "shared")))
        status, said = self.stress(ONLY="no trial", BUILDS="1", TRIALS="4", PRESET_LIMIT="3")
        self.assertEqual(status, 1, said)
        self.assertIn("out of time in 'ctest --preset clang'", said)


if __name__ == "__main__":
    unittest.main()
