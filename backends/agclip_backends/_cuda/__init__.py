"""CUDA kernels, for every library whose arrays lie on such a device."""
