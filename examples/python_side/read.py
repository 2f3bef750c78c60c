"""Reads what main.cpp wrote into output/python_side: with torch and the standard library alone, nothing of Treadle's."""

import json

import torch

checkpoint = torch.load("output/python_side/model_final.pth", weights_only=True)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
net.load_state_dict(checkpoint["model"])
optimizer = torch.optim.AdamW(net.parameters())
optimizer.load_state_dict(checkpoint["trainer"]["optimizer"])
print("iteration", checkpoint["iteration"], "lr", optimizer.param_groups[0]["lr"])

with open("output/python_side/metrics.json") as file:
    lines = [json.loads(line) for line in file]
print(len(lines), "lines of metrics, the last of iteration", lines[-1]["iteration"])

# It goes on training where the C++ program stopped.
for _ in range(50):
    x = torch.randn(64, 4)
    loss = torch.nn.functional.mse_loss(net(x), x.prod(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save({"model": net.state_dict()}, "output/python_side/from_python.pth")
print("went on in Python")
