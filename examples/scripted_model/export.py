"""Writes output/scripted_model/net.pt, which main.cpp trains. The script computes its losses itself; without such a method
ScriptedModel takes a loss of its own on what forward returns."""

import os
from typing import Dict

import torch
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    @torch.jit.export
    def losses(self, x: Tensor, label: Tensor) -> Dict[str, Tensor]:
        out = self.forward(x)
        return {"cross_entropy": nn.functional.cross_entropy(out, label), "size": 1e-3 * out.square().mean()}


if __name__ == "__main__":
    torch.manual_seed(0)
    os.makedirs("output/scripted_model", exist_ok=True)
    torch.jit.script(Net()).save("output/scripted_model/net.pt")
