"""One rank of the Python side of bench_start, started by torchrun: a step of DistributedDataParallel on 4 images."""

import os

import torch
import torch.distributed as dist
from torch import nn

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(1)
net = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.Linear(128, 10),
)
model = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
loss = nn.functional.cross_entropy(model(torch.rand(4, 1, 28, 28)), torch.randint(0, 10, (4,)))
loss.backward()
optimizer.step()
if dist.get_rank() == 0:
    print("iter: 0 ", loss.item(), flush=True)
dist.barrier()
os._exit(0)  # Gloo's threads do not always survive an interpreter that shuts down
