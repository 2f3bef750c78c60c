"""tools/lint.sh, as far as it comes without its tools: what it cannot look at is no success."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Lint(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        # The tool works in the tree that it stands in. Its tools count as installed, and say which files they were given.
        self.root = Path(scratch.name)
        for folder in ("tools", ".venv-lint/bin"):
            (self.root / folder).mkdir(parents=True)
        shutil.copy(ROOT / "tools/lint.sh", self.root / "tools")
        version = next(line for line in (ROOT / "tools/lint.sh").read_text().splitlines() if line.startswith("clang_version="))
        (self.root / ".venv-lint" / (".ready-" + version.split("=")[1])).touch()
        tool = self.root / ".venv-lint/bin/clang-format"
        tool.write_text('#!/bin/sh\nshift\nprintf "%s\\n" "$@"\n')
        tool.chmod(0o755)
        (self.root / "kept.cpp").touch()
        (self.root / "notes.md").touch()
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "GIT_CONFIG_NOSYSTEM": "1",
                            "GIT_CEILING_DIRECTORIES": str(self.root.parent)}
        self.git("init", "--quiet")
        self.git("add", "kept.cpp")
        self.git("-c", "user.name=a", "-c", "user.email=a", "commit", "--quiet", "--message=first")
        (self.root / "new.hpp").touch()

    def git(self, *words):
        subprocess.run(["git", *words], cwd=self.root, env=self.environment, check=True, capture_output=True)

    def lint(self, *words, **variables):
        return subprocess.run([self.root / "tools/lint.sh", *words], capture_output=True, text=True, timeout=60,
                              env=self.environment | variables)

    def assert_refused(self, ended, reason):
        self.assertEqual(ended.returncode, 1, ended.stdout + ended.stderr)
        self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
        self.assertIn(reason, ended.stderr)

    def test_takes_the_files_of_git_or_those_named(self):
        self.assertEqual(self.lint("format").stdout, "kept.cpp\nnew.hpp\n")
        self.assertEqual(self.lint("format", CHANGED="1").stdout, "new.hpp\n")
        self.assertEqual(self.lint("format", "kept.cpp").stdout, "kept.cpp\n")
        (self.root / "kept.cpp").unlink()
        self.assertEqual(self.lint("format").stdout, "new.hpp\n")

    def test_nothing_changed_is_a_success(self):
        (self.root / "new.hpp").unlink()
        ended = self.lint("check", CHANGED="1")
        self.assertEqual((ended.returncode, ended.stdout), (0, "lint: no C++ file to look at\n"), ended.stderr)

    def test_a_name_without_a_file_is_no_success(self):
        self.assert_refused(self.lint("check", "nosuch.cpp"), "there is no file nosuch.cpp in " + str(self.root))
        self.assert_refused(self.lint("check", "kept.cpp", "nosuch.cpp"), "there is no file nosuch.cpp")

    def test_a_file_of_another_language_is_not_formatted(self):
        self.assert_refused(self.lint("format", "notes.md"), "notes.md is neither a .cpp nor a .hpp file")

    def test_a_commit_that_git_does_not_know_is_no_success(self):
        self.assert_refused(self.lint("check", CHANGED="nosuchref"), "CHANGED=nosuchref is no commit that git knows")

    def test_a_git_that_fails_is_no_success(self):
        for changed in ("", "1"):
            self.assert_refused(self.lint("check", GIT_DIR="/nonexistent", CHANGED=changed), "not a git repository: '/nonexistent'")


if __name__ == "__main__":
    unittest.main()
