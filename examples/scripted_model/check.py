"""Loads what main.cpp has trained into the Python module that it came from."""

import torch

from export import Net

net = Net()
net.load_state_dict(torch.load("output/scripted_model/model_final.pth", weights_only=True)["model"])
net.eval()
x = torch.empty(2000, 2).uniform_(-1, 1)
right = (net(x).argmax(1) == (x.norm(dim=1) < 0.8).long()).float().mean().item()
print(f"in Python: {100 * right:.0f} % right")
print("the weights came home" if right > 0.9 else "these are not the trained weights")
