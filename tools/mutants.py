#!/usr/bin/env python3
"""Breaks the code on purpose and sees whether a test notices.

    tools/mutants.py [-j JOBS] [--only WORDS] [ROOM …]        or: make mutants ROOM="comm launch"
    tools/mutants.py --check                                  only whether the tables fit the code, in a second

The breaks of a room stand in tests/mutants/ROOM.toml, with no ROOM all of them are tried. Each is made in a private copy of
the working tree, build/mutants, alone; its test is built and run, and the file is put back. One line says what became of it:

    caught      the test fails, and which part of it does
    SURVIVES    the test passes: nothing notices that the code is wrong
    HANGS       the test takes longer than `limit`, and no `hang` says that it should
    STALE       the text to find does not stand in the file exactly once
    NO BUILD    the broken code does not compile
    NO TEST     the test fails without a break, is skipped, or there is none of that name

The exit status is 0 when all are caught, 1 otherwise, 2 for wrong usage. A table has these keys, in every [[break]] or in front
of them for all:

    what     the break, in words
    file     where, from the root of the project
    find     a text that stands there exactly once
    replace  what is put in its place; nothing when left out
    test     the name that ctest has for the test
    filter   which of its parts to run, as GoogleTest's --gtest_filter has it, without "-"
    limit    seconds that the run may take; 120 when left out
    hang     seconds after which a run counts as caught, for breaks that make it wait for ever
"""
import argparse
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "mutants"
BUILD = TREE / "build" / "release"
TABLES = ROOT / "tests" / "mutants"
KEYS = {"what", "file", "find", "replace", "test", "filter", "limit", "hang"}
NEEDED = {"what", "file", "find", "test", "filter"}
PR_SET_CHILD_SUBREAPER = 36


def read_table(room):
    """The breaks of a room, each with what the table says for all."""
    table = tomllib.loads((TABLES / f"{room}.toml").read_text())
    entries = table.pop("break", [])
    for entry in entries:
        for key, value in table.items():
            entry.setdefault(key, value)
        if set(entry) - KEYS or NEEDED - set(entry):
            sys.exit(f"{room}.toml: \"{entry.get('what', '?')}\" has unknown keys {sorted(set(entry) - KEYS)}"
                     f" or lacks {sorted(NEEDED - set(entry))}")
    return entries


def check_tables(rooms):
    """Says which texts do not stand in their file exactly once, so that a break would be STALE; how many those are."""
    stale = 0
    for room in rooms:
        for entry in read_table(room):
            file = ROOT / entry["file"]
            count = file.read_text().count(entry["find"]) if file.is_file() else 0
            if count != 1:
                print(f"tests/mutants/{room}.toml: \"{entry['what']}\": the text to find stands {count} times in {entry['file']}")
                stale += 1
    return stale


def copy_tree():
    """Brings the copy up to date; files that are equal keep their times, so that little is compiled."""
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True).stdout
    names = {name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()}
    for folder, folders, files in os.walk(TREE):
        here = pathlib.Path(folder).relative_to(TREE)
        folders[:] = [name for name in folders if here / name != pathlib.Path("build")]
        for name in files:
            if str(here / name) not in names:
                os.remove(pathlib.Path(folder) / name)
    for name in names:
        source, target = ROOT / name, TREE / name
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    if (ROOT / ".venv").exists() and not (TREE / ".venv").exists():
        os.symlink((ROOT / ".venv").resolve(), TREE / ".venv")


def build(test, jobs):
    """Empty, or what the compiler says."""
    command = ["cmake", "--build", BUILD, "--parallel", str(jobs), "--target", "test_" + test.replace(".", "_")]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.stdout[-2000:] + run.stderr[-500:] if run.returncode else ""


def command_of(test):
    """The command, the folder and the environment that ctest has for a test."""
    command = ["ctest", "--test-dir", BUILD, "--show-only=json-v1", "-R", f"^{re.escape(test)}$"]
    for found in json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["tests"]:
        properties = {each["name"]: each["value"] for each in found.get("properties", [])}
        environment = dict(each.split("=", 1) for each in properties.get("ENVIRONMENT", []))
        return found["command"], properties.get("WORKING_DIRECTORY", str(BUILD)), {**os.environ, **environment}
    return None


def end_descendants():
    """Of this process: a test that is broken leaves some behind, and they have become its children."""
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
    while left := children.read_text().split():
        for child in left:
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)


def run_test(test, words, seconds):
    """(exit status or None when the time was over, output) of the test with the given arguments."""
    command, folder, environment = command_of(test)
    with open(TREE / "build" / "output.txt", "w+b") as output:
        process = subprocess.Popen([*command, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        end_descendants()
        output.seek(0)
        return status, output.read().decode(errors="replace")


def check_test(test, entries, jobs):
    """Why a test says nothing about these breaks: it must pass without them. Empty when it does."""
    problem = build(test, jobs)
    if problem:
        return "it does not build: " + problem
    if command_of(test) is None:
        return "ctest knows no such test"
    for part in {entry["filter"] for entry in entries}:
        if not re.search(r"^  \S", run_test(test, [f"--gtest_filter={part}", "--gtest_list_tests"], 60)[1], re.MULTILINE):
            return f"no part is called {part}"
    parts = ":".join(sorted({entry["filter"] for entry in entries}))
    status, output = run_test(test, [f"--gtest_filter={parts}"], 900)
    return "" if status == 0 else f"without a break it ends with {status}: {output[-1500:]}"


def try_break(entry, jobs):
    """(verdict, details) of one break."""
    file = TREE / entry["file"]
    text = file.read_text() if file.is_file() else ""
    if text.count(entry["find"]) != 1:
        return "STALE", f"the text stands {text.count(entry['find'])} times in {entry['file']}"
    try:
        file.write_text(text.replace(entry["find"], entry.get("replace", "")))
        problem = build(entry["test"], jobs)
        if problem:
            return "NO BUILD", problem
        limit = entry.get("hang", entry.get("limit", 120))
        status, output = run_test(entry["test"], [f"--gtest_filter={entry['filter']}"], limit)
    finally:
        file.write_text(text)
    if status is None:
        return ("caught", f"hangs for {limit} s") if "hang" in entry else ("HANGS", f"more than {limit} s")
    if status == 0:
        return "SURVIVES", f"{entry['test']} {entry['filter']}"
    failed = sorted(set(re.findall(r"^\[  FAILED  \] ([\w/]+\.[\w/]+)", output, re.MULTILINE)))
    return "caught", ", ".join(failed) or f"the test ends with {status}"


def main():
    parser = argparse.ArgumentParser(description="break the code on purpose and see whether a test notices")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="compilers at once")
    parser.add_argument("--only", default="", metavar="WORDS", help="breaks whose description holds these words")
    parser.add_argument("--check", action="store_true", help="only look whether every text to find stands in its file once")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="tables in tests/mutants; all when none is given")
    arguments = parser.parse_args()
    known = sorted(path.stem for path in TABLES.glob("*.toml"))
    if unknown := set(arguments.rooms) - set(known):
        parser.error(f"no table for {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    if arguments.check:
        return 1 if check_tables(arguments.rooms or known) else 0

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    copy_tree()
    subprocess.run(["cmake", "--preset", "release", f"-DTORCH_PREFIX={os.environ.get('TORCH_PREFIX', '')}"], cwd=TREE,
                   stdout=subprocess.DEVNULL, check=True)
    counts = {}
    for room in arguments.rooms or known:
        entries = [entry for entry in read_table(room) if arguments.only in entry["what"]]
        problems = {test: check_test(test, [entry for entry in entries if entry["test"] == test], arguments.jobs)
                    for test in sorted({entry["test"] for entry in entries})}
        for entry in entries:
            start = time.monotonic()
            problem = problems[entry["test"]]
            verdict, details = ("NO TEST", problem) if problem else try_break(entry, arguments.jobs)
            problems[entry["test"]] = problem and "as above"
            counts[verdict] = counts.get(verdict, 0) + 1
            print(f"{verdict:9} {room}: {entry['what']} ({details}; {time.monotonic() - start:.0f} s)", flush=True)
    total = sum(counts.values())
    print(f"{total} breaks: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return 0 if total == counts.get("caught", 0) else 1


if __name__ == "__main__":
    sys.exit(main())
