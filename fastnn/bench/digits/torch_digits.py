"""Digits by PyTorch: rows picked from tensors, the fused optimizer."""

import os
import sys
import time

import numpy as np
import torch

imported = time.monotonic()

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
arrays = (np.load(f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))
x, y, x_test, y_test = map(torch.from_numpy, arrays)
epochs, batch, lr, momentum, *hidden = map(float, sys.argv[1:])

torch.manual_seed(0)
layers: list[torch.nn.Module] = []
width = x.shape[1]
for h in map(int, hidden):
    layers += [torch.nn.Linear(width, h), torch.nn.ReLU()]
    width = h
model = torch.nn.Sequential(*layers, torch.nn.Linear(width, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, fused=True)
for _ in range(int(epochs)):
    for rows in torch.randperm(len(x)).split(int(batch)):
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
trained = time.monotonic()

with torch.no_grad():
    accuracy = float((model(x_test).argmax(1) == y_test).double().mean())
