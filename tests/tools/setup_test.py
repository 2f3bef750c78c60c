"""tools/setup.sh on machines that are played by a PATH of their own: what it asks for, and when it goes on. Nothing is installed."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Setup(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        # The tool works in the tree that it stands in.
        self.root = Path(scratch.name)
        header = self.root / "torch/include/torch/csrc/api/include/torch/torch.h"
        for folder in ("tools", "bin", "torch/lib", header.parent):
            (self.root / folder).mkdir(parents=True)
        header.touch()
        shutil.copy(ROOT / "tools/setup.sh", self.root / "tools")
        for name in ("awk", "bash", "df", "dirname", "grep", "head", "mkdir", "paste", "sed", "sort"):
            (self.root / "bin" / name).symlink_to(shutil.which(name))
        self.program("c++", "echo 14")
        self.program("cmake", "echo cmake version 4.0.1")
        self.program("df", "echo; echo disk 0 0 100000000")

    def program(self, name, text):
        file = self.root / "bin" / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        file.chmod(0o755)

    def setup_tool(self):
        environment = {"PATH": str(self.root / "bin"), "TORCH_PREFIX": str(self.root / "torch")}
        ended = subprocess.run([self.root / "tools/setup.sh"], capture_output=True, text=True, env=environment, timeout=60)
        return ended.returncode, ended.stdout + ended.stderr

    def test_another_system_that_has_the_commands_goes_on_with_a_warning(self):
        for name in ("ninja", "git", "python3"):
            self.program(name, "")
        status, said = self.setup_tool()
        self.assertEqual(status, 0, said)
        self.assertRegex(said, r"^setup: WARNING: this is no Debian system \(no dpkg-query\); when the build misses something, "
                               r"install the equivalents of these Debian packages: g\+\+ .*\n$")

    def test_and_says_nothing_once_a_build_is_configured(self):
        for name in ("ninja", "git", "python3"):
            self.program(name, "")
        (self.root / "build/release").mkdir(parents=True)
        (self.root / "build/release/build.ninja").touch()
        self.assertEqual(self.setup_tool(), (0, ""))

    def test_another_system_without_a_command_is_told_which(self):
        self.program("git", "")
        status, said = self.setup_tool()
        self.assertEqual(status, 1, said)
        self.assertIn("there is no ninja python3 in PATH; install the equivalents", said)
        self.assertEqual(len(said.splitlines()), 1, said)

    def test_python_is_asked_for_with_a_libtorch_of_the_user_too(self):
        # Every package but Python's is installed, as Debian tells it.
        self.program("dpkg-query", 'shift 3; for name; do [[ $name == python3 ]] || echo "installed $name"; done')
        self.program("id", "echo 1000")
        self.program("sudo", "exit 1")
        status, said = self.setup_tool()
        self.assertEqual(status, 1, said)
        self.assertIn("run: sudo apt-get install -y python3\n", said)
        self.program("python3", "")
        self.assertEqual(self.setup_tool(), (0, ""))


if __name__ == "__main__":
    unittest.main()
