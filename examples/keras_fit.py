"""Keras: a rule in the optimizer of `fit`, on TensorFlow, JAX or PyTorch, with its norms logged.

KERAS_BACKEND=jax python keras_fit.py
"""

import keras
import numpy as np

import agclip
from agclip.integrations.keras import ClipLogger, with_clipping


def main(epochs=8):
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((256, 8)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    y[200] *= 1e4  # a broken label

    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)]
    )
    optimizer = with_clipping(keras.optimizers.SGD(0.05), agclip.ClipByGlobalNorm(5.0))
    model.compile(optimizer, loss="mse")
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=[ClipLogger()])
    print("logged:", ", ".join(sorted(history.history)))
    good = np.arange(len(x)) != 200
    print(f"loss without the broken label: {model.evaluate(x[good], y[good], verbose=0):.2f}")


if __name__ == "__main__":
    main()
