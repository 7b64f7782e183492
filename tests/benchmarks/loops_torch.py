"""A row of loops.py in PyTorch, step by step: eager, or each step by `torch.compile`.

Its arguments are the row's name and, for the latter, "compiled". Trains as many steps as each line
of input says. Keras only says what the branches are.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import torch  # pyright: ignore[reportMissingImports]
from loop_rows import BATCH, NUM_BATCHES, ROWS, data_of


class Mean(torch.nn.Module):
    """The mean over some axes."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):  # noqa: D102
        return x.mean(self.axes)


def modules_of(layer):
    """The PyTorch modules that do what a Keras layer does."""
    kind = type(layer).__name__
    if kind == "Sequential":
        return [module for each in layer.layers for module in modules_of(each)]
    return {
        "Dense": lambda: [torch.nn.LazyLinear(layer.units), torch.nn.ReLU()],
        "Dropout": lambda: [torch.nn.Dropout(layer.rate)],
        "BatchNormalization": lambda: [torch.nn.LazyBatchNorm1d(1e-3, 0.01)],
        "Embedding": lambda: [torch.nn.Embedding(layer.input_dim, layer.output_dim)],
        "GlobalAveragePooling1D": lambda: [Mean(1)],
        "Conv2D": lambda: [
            torch.nn.LazyConv2d(layer.filters, layer.kernel_size, padding="same"),
            torch.nn.ReLU(),
        ],
        "GlobalAveragePooling2D": lambda: [Mean(2, 3)],
    }[kind]()


def batches_of(x, y):
    """Batches in memory; pictures with their channels first."""
    x = torch.tensor(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x)
    return list(zip(x.split(BATCH), torch.tensor(y).split(BATCH), strict=True))


def branches_of(branches):
    """(network, optimizer, batches) of each branch; the networks share their output layer."""
    from keras.layers import Embedding

    shared = torch.nn.LazyLinear(1)
    for (_, make), columns in zip(branches, data_of(branches), strict=True):
        network = torch.nn.Sequential(*modules_of(make(Embedding)), shared)
        batches = batches_of(*columns)
        network(batches[0][0])
        yield network, torch.optim.Adam(network.parameters(), eps=1e-7), batches


def step_of(network, optimizer, batches):
    """Returns a function that takes one step on a batch by its number."""

    def step(x, y):
        loss = torch.nn.functional.mse_loss(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = torch.compile(step) if "compiled" in sys.argv else step
    return lambda number: step(*batches[number % NUM_BATCHES])


def main():
    """Reads a number of steps from every line, trains, and answers with a line."""
    torch.manual_seed(0)
    steps = [step_of(*each) for each in branches_of(ROWS[sys.argv[1]][1])]
    print("torch", torch.__version__, flush=True)
    done = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            steps[done % 2](done // 2)
            done += 1
        print("done", flush=True)


if __name__ == "__main__":
    main()
