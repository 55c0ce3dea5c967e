"""A training loop in NumPy: clip the gradients of all parameters by their global norm, in place.

    python numpy_loop.py

A linear model is fitted to data with a few gross outliers, which make single steps explode.
"""

import numpy as np

import agclip

CLIP_NORM = 1.0


def gradients(params, x, y):
    """Return the gradients of half the mean squared error."""
    error = x @ params["w"] + params["b"] - y
    return {"w": x.T @ error / len(y), "b": np.asarray(error.mean())}


def train(clip_norm, steps=400, learning_rate=0.1):
    draw = np.random.default_rng(0)
    truth = np.asarray([1.0, -2.0, 3.0])
    params = {"w": np.zeros(3), "b": np.zeros(())}
    clipped_steps = 0
    for step in range(steps):
        x = draw.standard_normal((32, 3))
        y = x @ truth + 0.5
        if step % 50 == 49:
            y[0] += 1e4  # a broken label
        grads = gradients(params, x, y)
        _, norm = agclip.clip_by_global_norm_(grads, clip_norm)  # None is no clipping
        clipped_steps += clip_norm is not None and float(norm) > clip_norm
        for name, grad in grads.items():
            params[name] = params[name] - learning_rate * grad
    return float(np.abs(params["w"] - truth).max()), clipped_steps


def main():
    for clip_norm in (None, CLIP_NORM):
        error, clipped_steps = train(clip_norm)
        print(f"clip_norm={clip_norm}: error {error:.3f}, {clipped_steps} steps clipped")


if __name__ == "__main__":
    main()
