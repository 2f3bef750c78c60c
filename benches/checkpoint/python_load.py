"""The other side of checkpoint_bench: torch.load. Reads "load PATH" or "one PATH" (one tensor of a mapped file) a line, and
answers with seconds."""

import sys
import time

import torch

torch.set_num_threads(1)


def load(path):
    torch.load(path, weights_only=True)


def one(path):
    torch.load(path, weights_only=True, mmap=True)["t100"].sum()


for line in sys.stdin:
    what, _, path = line.rstrip("\n").partition(" ")
    start = time.perf_counter()
    {"load": load, "one": one}[what](path)
    print(time.perf_counter() - start, flush=True)
