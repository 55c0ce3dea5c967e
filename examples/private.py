"""DP-SGD: the gradient of each example is clipped, and noise is added to their sum.

    python private.py

agclip bounds what one example adds (Abadi et al., 2016, arXiv:1607.00133). The noise is the
caller's, and so is the accounting of epsilon and delta, for which there are libraries.
"""

import numpy as np

import agclip

CLIP_NORM = 1.0
NOISE_MULTIPLIER = 0.8


def per_example_gradients(params, x, y):
    """Return the gradients of the logistic loss: the leading axis of each leaf is the example."""
    probability = 1 / (1 + np.exp(-(x @ params["w"] + params["b"])))
    error = probability - y
    return {"w": error[:, None] * x, "b": error}


def private_mean(grads, examples, draw):
    """Return the noisy mean: the noise is in proportion to what one example can add."""
    total, clipped = agclip.clip_per_example(grads, CLIP_NORM)
    scale = NOISE_MULTIPLIER * CLIP_NORM
    noisy = {k: g + scale * draw.standard_normal(np.shape(g)) for k, g in total.items()}
    return {k: g / examples for k, g in noisy.items()}, int(clipped)


def main(steps=200, batch=128, learning_rate=0.5):
    data, draw = np.random.default_rng(0), np.random.default_rng(1)
    truth = np.asarray([2.0, -1.0, 0.5, 0.0])
    params = {"w": np.zeros(4), "b": np.zeros(())}
    clipped = 0
    for _ in range(steps):
        x = data.standard_normal((batch, 4))
        y = (x @ truth > 0).astype(float)
        mean, count = private_mean(per_example_gradients(params, x, y), batch, draw)
        params = {name: params[name] - learning_rate * mean[name] for name in params}
        clipped += count
    x = data.standard_normal((10_000, 4))
    accuracy = np.mean((x @ params["w"] + params["b"] > 0) == (x @ truth > 0))
    print(f"accuracy {accuracy:.2f}; {clipped / (steps * batch):.0%} of the examples clipped")


if __name__ == "__main__":
    main()
