"""Compiled kernels for arrays in host memory, of every library that keeps arrays there."""
