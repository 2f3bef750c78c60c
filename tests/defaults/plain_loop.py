"""A plain loop for python_losses_test.cpp: prints the loss of every iteration, exactly.

Arguments: weights (.pth), folder of the data set, seed, batch size, iterations, rate, iteration of the decay.
"""
import gzip
import sys

import numpy
import torch
from torch import nn
from torch.nn import functional as F

weights, folder, seed, batch_size, iterations, rate, decay = sys.argv[1:]
torch.set_num_threads(1)


def idx(name, header):
    with gzip.open(f"{folder}/{name}") as file:
        return numpy.frombuffer(file.read(), dtype=numpy.uint8, offset=header).copy()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64)
        self.hidden = nn.Linear(64 * 7 * 7, 128)
        self.output = nn.Linear(128, 10)

    def forward(self, image):
        x = torch.empty(image.shape, memory_format=torch.channels_last).copy_(image)
        x = F.max_pool2d(F.relu_(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu_(self.norm2(self.conv2(x))), 2)
        return self.output(F.relu_(self.hidden(x.flatten(1))))


net = Net()
state = torch.load(weights, weights_only=True)["model"]
net.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in state.items()})
labels = torch.from_numpy(idx("train-labels-idx1-ubyte.gz", 8)).long()
images = torch.from_numpy(idx("train-images-idx3-ubyte.gz", 16)).view(len(labels), 1, 28, 28)
mean, std = torch.tensor([100.0]).view(1, 1, 1, 1), torch.tensor([60.0]).view(1, 1, 1, 1)


def order():
    generator = torch.Generator()
    generator.manual_seed(int(seed))
    while True:
        yield from torch.randperm(len(labels), generator=generator).tolist()


indices = order()
norms = {id(p) for m in (net.norm1, net.norm2) for p in m.parameters()}
optimizer = torch.optim.SGD(
    [{"params": [p], "weight_decay": 0.0 if id(p) in norms else 0.0001} for p in net.parameters()],
    lr=float(rate), momentum=0.9, nesterov=True)
for iteration in range(int(iterations)):
    for group in optimizer.param_groups:
        group["lr"] = float(rate) * (0.1 if iteration >= int(decay) else 1.0)
    chosen = [next(indices) for _ in range(int(batch_size))]
    loss = F.cross_entropy(net((images[chosen].float() - mean) / std), labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
