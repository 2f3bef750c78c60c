"""Writes TorchScript files for scripted_model_test.cpp into the folder that is its argument."""
import sys

import torch
from torch import Tensor, nn
from typing import Dict


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.relu(self.body(x) * self.scale))

    @torch.jit.export
    def losses(self, x: Tensor, y: Tensor) -> Dict[str, Tensor]:
        out = self.forward(x)
        return {"a_cls": nn.functional.cross_entropy(out, y), "b_norm": 0.25 * out.square().mean()}

    @torch.jit.export
    def total(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.forward(x), y)

    @torch.jit.export
    def words(self, x: Tensor, y: Tensor) -> str:
        return "none"


class Two(nn.Module):
    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        return {"double": 2 * x, "first": x[:, 0]}


class Data(nn.Module):
    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, x):
        return x


folder = sys.argv[1]
torch.set_num_threads(1)
torch.manual_seed(5)
net = Net()
net.body[2].p = 0.0
x, y = torch.randn(16, 6), torch.randint(0, 3, (16,))
script = torch.jit.script(net)
script.save(folder + "/net.pt")
with torch.no_grad():
    net.eval()
    out = net(x)
    net.train()
losses = []
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
for _ in range(20):
    optimizer.zero_grad()
    parts = net.losses(x, y)
    loss = sum(parts.values())
    loss.backward()
    optimizer.step()
    losses.append(loss.detach())
torch.jit.script(net).save(folder + "/trained.pt")
torch.jit.script(Data(x=x, y=y, out=out, losses=torch.stack(losses))).save(folder + "/data.pt")
torch.jit.script(Two()).save(folder + "/two.pt")


# An operator that only this process knows.
library = torch.library.Library("treadle_test", "DEF")
library.define("halve(Tensor x) -> Tensor")


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.treadle_test.halve(x)


torch.jit.script(Foreign()).save(folder + "/foreign.pt")
