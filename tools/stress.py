#!/usr/bin/env python3
"""stress.py FOLDER: the long form of the tests that try what must not go wrong: kills, power loss, errors of the disk, hostile
files. FOLDER is a build folder. Ends with a line for each trial, and status 1 when one failed or did not get through its count.

  TRIALS=50        how often a process is killed, or a run stopped and resumed; half as often where three ranks train
  INPUTS=1000000   how many damaged files are read
  LIMIT=1800       the longest in seconds that one trial may take; it ends early, and says how far it came
  SEED=N           other random moments and files; chosen by chance and printed when absent
  SANITIZERS=1     also builds the presets asan and tsan and runs their tests (an hour of compiling)
  BUILDS=1         also builds the presets clang and shared and runs their tests, with the install test on shared libraries
  PRESET_LIMIT=14400   the longest in seconds that the build, and then the tests, of one of these presets may take; TRIALS,
                   INPUTS and SEED reach their tests where they are given, else each test takes its own count
  ONLY=WORD        trials whose name holds WORD"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Trial:
    name: str
    program: str
    filter: str = "*"
    count: str = ""  # the variable that says how often; none: once
    unit: str = ""
    batch: int = 1  # of one process
    part: int = 1  # takes so many times longer that it makes only this part of the count

    def variables(self, number, seed):
        if self.count == "TRIALS":
            return {"TREADLE_STRESS": "1", "TRIALS": str(number), "TREADLE_SEED": str(seed)}
        if self.count == "INPUTS":
            return {"TREADLE_FUZZ_INPUTS": str(number), "TREADLE_FUZZ_SEED": str(seed)}
        return {"TREADLE_STRESS": "1"}


TRIALS = [
    Trial("kill -9 while saving without pause", "checkpoint_kill", count="TRIALS", unit="kills", batch=50),
    Trial("power loss after every call", "checkpoint", "Durability.*PowerLoss*"),
    Trial("an error at every call", "checkpoint", "Durability.*Error*"),
    Trial("files beyond 4 GiB", "checkpoint_large"),
    Trial("damaged checkpoints", "fuzz_checkpoint", "Fuzz.EveryInput*", "INPUTS", "files", 50_000),
    Trial("damaged pictures", "fuzz_images", count="INPUTS", unit="files", batch=50_000),
    Trial("stopped anywhere and resumed, everything on", "defaults", "EverythingOn.Stopped*", "TRIALS", "stops", 5),
    Trial("kill -9 of a training run, resumed", "app_kill", count="TRIALS", unit="kills", batch=5),
    Trial("a rank or the launcher killed or stopped", "launch_trials", count="TRIALS", unit="kills", batch=5),
    Trial("the same while three ranks train, resumed", "app_distributed_trials", count="TRIALS", unit="kills", batch=6, part=2),
]


# What a program of GoogleTest says whose filter fits nothing.
NOTHING_RAN = re.compile(r"\b0 tests from 0 test suites ran")


def say(text):
    print("stress: " + text, flush=True)


def run_until(command, deadline, output=subprocess.PIPE, **options):
    """Runs a command to its end or to the deadline, where all of its process group is killed; TimeoutExpired says so."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True, **options)
    try:
        text, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, text


def run(trial, build, counts, limit, seed):
    """(passed, what to say of it)"""
    program = build / "tests" / f"test_{trial.program}"
    wanted = max(1, counts.get(trial.count, 1) // trial.part)
    environment = dict(os.environ, TREADLE_COMMAND=str(build / "bin/treadle"),
                       TREADLE_RANK_PROGRAM=str(build / "tests/rank_program"))
    done, start = 0, time.monotonic()

    def result(text):
        much = f"{done:,} of {wanted:,} {trial.unit}, " if trial.count else ""
        return f"{much}{time.monotonic() - start:.0f} s: {text}"

    while done < wanted:
        if time.monotonic() >= start + limit:
            return False, result("out of time")
        number = min(trial.batch, wanted - done)
        command = [program, "--gtest_brief=1", f"--gtest_filter={trial.filter}"]
        try:
            status, text = run_until(command, start + limit, env=environment | trial.variables(number, seed + done))
        except subprocess.TimeoutExpired:
            return False, result("out of time")
        except OSError as error:
            return False, result(f"cannot run: {error}")
        if status not in (0, 77):
            print(text)
            return False, result(f"FAILED with status {status}, seed {seed + done}")
        if status == 77 or NOTHING_RAN.search(text):
            return False, result("did not run: " + (text.strip().splitlines() or ["no reason given"])[-1])
        done += number
    return True, result("passed")


def given_variables():
    """What was asked for by name, as the tests of a preset know it."""
    names = {"TRIALS": "TRIALS", "TREADLE_FUZZ_INPUTS": "INPUTS", "TREADLE_SEED": "SEED", "TREADLE_FUZZ_SEED": "SEED"}
    given = {known: os.environ[name] for known, name in names.items() if os.environ.get(name)}
    return given | ({"TREADLE_STRESS": "1"} if "TRIALS" in given else {})


def run_preset(preset, limit):
    """(passed, what to say of it)"""
    start = time.monotonic()
    log = ROOT / "build" / f"stress-{preset}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as output:
        for command in (["cmake", "--preset", preset], ["cmake", "--build", "--preset", preset], ["ctest", "--preset", preset]):
            def result(text):
                return f"{time.monotonic() - start:.0f} s: {text} in '{' '.join(command)}', see {log}"

            try:
                status, _ = run_until(command, time.monotonic() + limit, output, env=os.environ | given_variables())
            except subprocess.TimeoutExpired:
                return False, result("out of time")
            except OSError as error:
                return False, result(f"cannot run: {error}")
            if status != 0:
                return False, result("FAILED")
    return True, f"{time.monotonic() - start:.0f} s: passed"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build = Path(sys.argv[1]).resolve()

    def setting(name, otherwise):
        text = os.environ.get(name) or str(otherwise)
        if not text.isdigit():
            sys.exit(f"stress: {name}={text}: a number is expected")
        return int(text)

    counts = {"TRIALS": setting("TRIALS", 50), "INPUTS": setting("INPUTS", 1_000_000)}
    limit, seed = setting("LIMIT", 1_800), setting("SEED", random.randrange(1_000_000))
    preset_limit = setting("PRESET_LIMIT", 14_400)
    only = os.environ.get("ONLY") or ""
    say(f"seed {seed}")
    summary = []

    def keep(name, outcome):
        summary.append((name, *outcome))
        say(f"{name}: {outcome[1]}")

    for trial in TRIALS:
        if only in trial.name:
            keep(trial.name, run(trial, build, counts, limit, seed))
    presets = ("clang", "shared") if setting("BUILDS", 0) else ()
    if setting("SANITIZERS", 0):
        presets += ("asan", "tsan")
    for preset in presets:
        keep(f"every test under {preset}", run_preset(preset, preset_limit))
    failed = sum(not passed for _, passed, _ in summary)
    print()
    for name, passed, text in summary:
        print(f"{'  ' if passed else '! '}{name:<46} {text}")
    print(f"\n{len(summary) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not summary else 0)


if __name__ == "__main__":
    main()
