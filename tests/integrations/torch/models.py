"""Small models with gradients."""

import torch

SHAPES = {
    "one": [(7,)],
    "scalar": [(), (3,)],
    "matrices": [(4, 3), (3,), (2, 3, 2)],
    "empty": [(0,), (5,), (2, 0)],
}


def parameters(shapes, dtype=torch.float32, seed=0, factor=1.0):
    """Return parameters with gradients from a normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape in shapes:
        p = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
        p.grad = (torch.randn(shape, generator=generator, dtype=torch.float64) * factor).to(dtype)
        found.append(p)
    return found


def gradients(found):
    """Return copies of the gradients."""
    return [None if p.grad is None else p.grad.clone() for p in found]
