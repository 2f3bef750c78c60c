#!/usr/bin/env python3
"""bench.py FOLDER [NAME…]: runs the benchmark programs in FOLDER (all, or those named: solver, engine, …), one after the other,
and ends with a table of what they measured and on which machine; FOLDER/results.md holds the same table, FOLDER/results.json the
numbers.

bench.py --figures FILE: of such a results.json only the rows that have a target, as a short table for a page.

QUICK=1 in the environment takes few rounds: under three minutes, for a look; a figure that counts needs the full run.

The frameworks that Treadle is compared with live in a Python environment of their own, .venv-bench, beside the project's .venv,
whose torch it shares; it is made when it is absent. Without it, or without a network to make it, their rows are left out. The
exit status is 1 when a program failed; the rows that it had reported by then stay in the table."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ["lightning==2.6.6", "pytorch-ignite==0.5.5", "pillow==13.0.0"]
TITLES = {
    "solver": "Optimizers and schedules",
    "engine": "The loop",
    "peers": "A training step beside other frameworks",
    "growth": "How the engine's cost grows",
    "checkpoint": "Checkpoints",
    "data": "Data",
    "distributed": "Processes",
    "start": "Start",
}


def say(text):
    print("bench: " + text, flush=True)


def peers_python():
    """The Python of .venv-bench, or None with the reason said."""
    venv = ROOT / ".venv-bench"
    python = venv / "bin" / "python"
    ready = venv / ".ready"
    if ready.exists() and ready.read_text().split() == PEERS:
        return python
    torch = sorted(ROOT.glob(".venv/lib/python3*/site-packages"))
    if not torch:
        say("there is no .venv with torch: other frameworks are left out")
        return None
    say(f"installing {', '.join(PEERS)} into .venv-bench (40 MB to download)")
    try:
        subprocess.run([ROOT / ".venv/bin/python", "-m", "venv", "--clear", venv], check=True, capture_output=True)
        site = next(venv.glob("lib/python3*/site-packages"))
        (site / "torch.pth").write_text(str(torch[0]) + "\n")
        subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--retries", "2", *PEERS],
            check=True, capture_output=True, text=True,
        )
    except (subprocess.CalledProcessError, StopIteration) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        say(f"other frameworks are left out: {lines[-1] if lines else error}")
        return None
    ready.write_text("\n".join(PEERS) + "\n")
    return python


def output_of(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def first_line(command):
    return (output_of(command).splitlines() or ["unknown"])[0]


def cached(folder, name):
    """What CMake's cache of the build holds under a name."""
    cache = folder.parent / "CMakeCache.txt"
    found = re.search(rf"^{name}:\w+=(.*)$", cache.read_text(), re.MULTILINE) if cache.exists() else None
    return found[1] if found else ""


def torch_of_build(folder):
    """The version of the LibTorch that was built with, as its headers tell it."""
    for header in ("torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"):
        file = Path(cached(folder, "LibTorch_INCLUDE_DIR") or "none", header)
        numbers = re.findall(r"#define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", file.read_text()) if file.exists() else []
        if numbers:
            return ".".join(numbers)
    return "unknown"


def commit():
    name = first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    changed = output_of(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return name + (" with changes" if changed else "")


def python_side(python):
    """The versions of Python and of what is compared with."""
    script = ("import platform, importlib.metadata as m\n"
              "print('Python', platform.python_version())\n"
              f"for name in {['torch'] + [peer.split('==')[0] for peer in PEERS]}:\n"
              "  try: print(name, m.version(name))\n"
              "  except m.PackageNotFoundError: pass")
    return ", ".join(output_of([python, "-c", script]).splitlines()) if python else "none"


def machine(folder, python):
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {
        "cpu": cpu,
        "cpu_capability": "unknown",
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "compiler": first_line([cached(folder, "CMAKE_CXX_COMPILER") or "none", "--version"]),
        "build": cached(folder, "CMAKE_BUILD_TYPE") or "unknown",
        "torch": torch_of_build(folder),
        "peers": python_side(python),
        "commit": commit(),
        "load_at_start": os.getloadavg()[0],
    }


def run(program, environment):
    """(exit status, what a program reports: figures, remarks, facts)"""
    collected = program.parent / (program.name + ".lines")
    collected.unlink(missing_ok=True)
    status = subprocess.run([program], env=environment | {"TREADLE_BENCH_RESULTS": str(collected)}).returncode
    return status, [json.loads(line) for line in collected.read_text().splitlines()] if collected.exists() else []


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def aligned(rows):
    """A Markdown table whose columns stand below each other; the first row is its head."""
    rows = [rows[0], ["-"] * len(rows[0]), *rows[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["| " + " | ".join(cell.ljust(width, "-" if row is rows[1] else " ") for cell, width in zip(row, widths)) + " |"
            for row in rows]


def side(figure, who):
    return f"{number(figure[who])} {figure['unit']}"


def asked_and_met(figure):
    if "judged" not in figure:
        return "", ""
    of = "" if figure["judged"] == "ours" else figure["judged"] + " "
    return f"{of}{figure['sign']} {number(figure['limit'])}", "met" if figure["met"] else "**missed**"


def row(figure):
    peer = ratio = difference = ""
    if "peer" in figure:
        peer = f"{figure['peer']}: {side(figure, 'theirs')}"
        ratio = number(figure["ours"] / figure["theirs"]) if figure["theirs"] else ""
        difference = f"{number(figure['ours'] - figure['theirs'])} {figure['unit']}"
    return [figure["what"], side(figure, "ours"), peer, ratio, difference, *asked_and_met(figure)]


def summary(results):
    judged = [entry for entries in results["benches"].values() for entry in entries if "judged" in entry]
    lines = [f"{sum(entry['met'] for entry in judged)} of {len(judged)} figures that have a target meet it."]
    if results["failed"]:
        lines.append(f"Rows are missing: {', '.join('bench_' + name for name in results['failed'])} failed.")
    return " ".join(lines)


def described(host, quick):
    return (f"{host['cpu']} ({host['cpu_capability']}), {host['cores']} cores, {host['memory_gib']} GiB, {host['system']}; "
            f"{host['compiler']}, build type {host['build']}; torch {host['torch']}; commit {host['commit']}; "
            f"peers: {host['peers']}. Load average at the start: {host['load_at_start']:.1f}. "
            + ("A short run of three rounds." if quick else "Both sides of a row take turns in one run; medians."))


def table(results):
    rows = [["what", "ours", "peer", "ours/peer", "ours - peer", "asked", ""]]
    remarks = []
    for name, entries in results["benches"].items():
        rows.append([f"**{TITLES.get(name, name)}**"] + [""] * 6)
        rows += [row(entry) for entry in entries if "what" in entry]
        remarks += [f"- {TITLES.get(name, name)}: {entry['remark']}" for entry in entries if "remark" in entry]
    lines = ["# What was measured", "", described(results["machine"], results["quick"]), "", *aligned(rows), ""]
    return "\n".join(lines + remarks + ([""] if remarks else []) + [summary(results)]) + "\n"


def figures(results):
    """The rows that have a target, and the machine."""
    rows = [["what", "ours", "peer", "ratio or difference", "asked", "met"]]
    for entries in results["benches"].values():
        for figure in entries:
            if "judged" not in figure:
                continue
            peer = f"{figure['peer']}: {side(figure, 'theirs')}" if "peer" in figure else ""
            value = "" if figure["judged"] == "ours" else number(figure["value"])
            if figure["judged"] == "ours-peer":
                value += " " + figure["unit"]
            rows.append([figure["what"], side(figure, "ours"), peer, value, asked_and_met(figure)[0],
                         "yes" if figure["met"] else "**no**"])
    return "\n".join([*aligned(rows), "", described(results["machine"], results["quick"]) + " " + summary(results)]) + "\n"


def measure(folder, chosen):
    """Runs the programs, and gives what they report."""
    quick = os.environ.get("QUICK", "") not in ("", "0")
    environment = dict(os.environ)
    if quick:
        environment["TREADLE_BENCH_QUICK"] = "1"
    python = peers_python()
    if python:
        environment["TREADLE_PEERS_PYTHON"] = environment["TREADLE_PYTHON"] = str(python)
    results = {"machine": machine(folder, python), "quick": quick, "failed": [], "seconds": {}, "benches": {}}
    for name in chosen:
        say(f"{TITLES.get(name, name)} (bench_{name})")
        start = time.monotonic()
        status, entries = run(folder / f"bench_{name}", environment)
        results["seconds"][name] = round(time.monotonic() - start)
        results["benches"][name] = [entry for entry in entries if "what" in entry or "remark" in entry]
        for entry in entries:
            results["machine"].update({key: value for key, value in entry.items() if key == "cpu_capability"})
        if status != 0:
            say(f"bench_{name} failed with status {status}")
            results["failed"].append(name)
    return results


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--figures":
        if len(sys.argv) != 3:
            sys.exit("bench: --figures takes one file, the results.json of a run")
        print(figures(json.loads(Path(sys.argv[2]).read_text())), end="")
        return
    folder = Path(sys.argv[1]).resolve()
    chosen = sys.argv[2:] or list(TITLES)
    unknown = [name for name in chosen if not (folder / f"bench_{name}").exists()]
    if unknown:
        sys.exit(f"bench: there is no bench_{unknown[0]} in {folder}; known: {', '.join(TITLES)}")
    results = measure(folder, chosen)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(table(results))
    print("\n" + table(results))
    took = ", ".join(f"{name} {seconds} s" for name, seconds in results["seconds"].items())
    say(f"{took}; the table is {folder / 'results.md'}, the numbers {folder / 'results.json'}")
    if results["failed"]:
        sys.exit(f"bench: failed: {', '.join(results['failed'])}")


if __name__ == "__main__":
    main()
