"""One rank of the Python side: RANK SIZE FILE; each line of stdin is a task and how often; answers with seconds for one."""

import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

rank, size, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=size)


def training(layers, features, batch):
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(features, features), nn.ReLU())])
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    x = torch.rand(batch, features)

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def gather_object():
    dist.all_gather_object([None] * size, "x" * 1000)


tasks = {"small": training(2, 16, 8), "large": training(6, 2048, 8), "all_gather": gather_object}
print("ready", flush=True)
for line in sys.stdin:
    name, count = line.split()
    dist.barrier()
    start = time.perf_counter()
    for _ in range(int(count)):
        tasks[name]()
    print((time.perf_counter() - start) / int(count), flush=True)
