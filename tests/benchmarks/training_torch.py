"""The model of training.py in PyTorch, eager; trains as many steps as each line of input says."""

import sys

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

NUM_BATCHES = 40


def main():
    """Reads "steps batch" from every line, trains, and answers with a line."""
    torch.manual_seed(0)
    shared = torch.nn.Linear(16, 1)
    vector = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), shared)
    ids = torch.nn.Sequential(torch.nn.Embedding(100, 16), torch.nn.Flatten(), shared)
    networks = [vector, ids]
    optimizers = [torch.optim.Adam(network.parameters()) for network in networks]
    rng = np.random.default_rng(0)
    print("ready", flush=True)
    data = None
    for line in sys.stdin:
        steps, batch = (int(word) for word in line.split())
        if data is None:
            rows = NUM_BATCHES * batch
            labels = torch.tensor(rng.normal(size=(rows, 1)).astype(np.float32))
            features = [
                torch.tensor(rng.normal(size=(rows, 10)).astype(np.float32)),
                torch.tensor(rng.integers(0, 100, size=(rows, 1))),
            ]
            data = [list(zip(x.split(batch), labels.split(batch))) for x in features]  # noqa: B905
        for step in range(steps):
            which = step % 2
            x, y = data[which][step // 2 % NUM_BATCHES]
            loss = torch.nn.functional.mse_loss(networks[which](x), y)
            optimizers[which].zero_grad()
            loss.backward()
            optimizers[which].step()
        print("done", flush=True)


if __name__ == "__main__":
    main()
