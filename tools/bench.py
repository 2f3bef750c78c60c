#!/usr/bin/env python3
"""bench.py FOLDER [NAME…]: runs the benchmark programs in FOLDER (all, or those named: solver, engine, …), one after the other,
and writes what they measured, with a description of the machine, to FOLDER/results.json and FOLDER/results.md.

QUICK=1 in the environment takes few rounds: under three minutes, for a look; a figure that counts needs the full run.

The frameworks that Treadle is compared with live in a Python environment of their own, .venv-bench, beside the project's .venv,
whose torch it shares; it is made when it is absent. Without it, or without a network to make it, their rows are left out."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ["lightning", "pytorch-ignite", "pillow"]
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
    if ready.exists():
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
    ready.touch()
    return python


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def machine():
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    venv = sorted(ROOT.glob(".venv/lib/python3*/site-packages/torch-*.dist-info"))
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "compiler": first_line(["c++", "--version"]),
        "torch": venv[0].name.split("-")[1].removesuffix(".dist") if venv else "from TORCH_PREFIX",
        "commit": first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "load_at_start": os.getloadavg()[0],
    }


def run(program, environment):
    """The figures and remarks that a program reports; None when it fails."""
    collected = program.parent / (program.name + ".lines")
    collected.unlink(missing_ok=True)
    status = subprocess.run([program], env=environment | {"TREADLE_BENCH_RESULTS": str(collected)}).returncode
    if status != 0:
        say(f"{program.name} failed with status {status}")
        return None
    return [json.loads(line) for line in collected.read_text().splitlines()] if collected.exists() else []


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def row(figure):
    peer = f"{figure['peer']}: {number(figure['theirs'])} {figure['unit']}" if "peer" in figure else ""
    judged = asked = met = ""
    if "judged" in figure:
        judged = f"{figure['judged']} = {number(figure['value'])}"
        asked = f"{figure['sign']} {number(figure['limit'])}"
        met = "met" if figure["met"] else "**missed**"
    elif peer and figure["theirs"]:
        judged = f"ours/peer = {number(figure['ours'] / figure['theirs'])}"
    return f"| {figure['what']} | {number(figure['ours'])} {figure['unit']} | {peer} | {judged} | {asked} | {met} |"


def table(results):
    host = results["machine"]
    lines = [
        "# What was measured",
        "",
        f"{host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB, {host['system']}; {host['compiler']}, release build; "
        f"torch {host['torch']}; commit {host['commit']}. Load average at the start: {host['load_at_start']:.1f}. "
        + ("A short run of three rounds." if results["quick"] else "Both sides of a row take turns in one run; medians."),
        "",
    ]
    for name, entries in results["benches"].items():
        lines += [f"## {TITLES.get(name, name)}", "", "| what | ours | peer | judged | asked | |", "|---|---|---|---|---|---|"]
        lines += [row(entry) for entry in entries if "what" in entry]
        lines += [""] + [f"- {entry['remark']}" for entry in entries if "remark" in entry]
        if lines[-1]:
            lines.append("")
    judged = [entry for entries in results["benches"].values() for entry in entries if "judged" in entry]
    lines.append(f"{sum(entry['met'] for entry in judged)} of {len(judged)} figures that have a target meet it.")
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    chosen = sys.argv[2:] or list(TITLES)
    unknown = [name for name in chosen if not (folder / f"bench_{name}").exists()]
    if unknown:
        sys.exit(f"bench: there is no bench_{unknown[0]} in {folder}; known: {', '.join(TITLES)}")
    quick = os.environ.get("QUICK", "") not in ("", "0")
    environment = dict(os.environ)
    if quick:
        environment["TREADLE_BENCH_QUICK"] = "1"
    if python := peers_python():
        environment["TREADLE_PEERS_PYTHON"] = str(python)
        environment["TREADLE_PYTHON"] = str(python)
    results = {"machine": machine(), "quick": quick, "benches": {}}
    failed = []
    start = time.monotonic()
    for name in chosen:
        say(f"{TITLES.get(name, name)} (bench_{name})")
        figures = run(folder / f"bench_{name}", environment)
        if figures is None:
            failed.append(name)
        else:
            results["benches"][name] = figures
    results["seconds"] = round(time.monotonic() - start)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(table(results))
    say(f"{results['seconds']} s; the table is {folder / 'results.md'}, the numbers {folder / 'results.json'}")
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
