"""scikit-learn's digits, a small network trained on them, and side information on some of them."""

import torch
from sklearn.datasets import load_digits
from torch import nn

#: Inputs to fit on; the rest is held out.
HELD = 1400
LAYER = "6"  # before its ReLU


def load():
    """Return images, labels, and a table of the digit and how much ink it has."""
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(bunch.target)
    table = torch.stack([labels.float(), images.mean((1, 2, 3))], 1)
    return images, labels, table


def train(digits):
    """Return the network, always the same."""
    images, labels, _ = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(192, 32),
            nn.ReLU(),
            nn.Linear(32, 20),
            nn.ReLU(),
            nn.Linear(20, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(250):
            index = torch.randint(0, HELD, (64,))
            loss = nn.functional.cross_entropy(net(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def hidden(digits):
    """Return side information on a fifth of the rows to fit on."""
    table = digits[2][:HELD].clone()
    hidden = torch.rand(len(table), generator=torch.Generator().manual_seed(0)) > 0.2
    table[hidden] = torch.nan
    return table


def codes_of(explainer, images):
    with explainer.classifier.frozen(), torch.no_grad():
        return explainer.lens.encode(images)
