"""Adapters of array libraries for agclip.

The registry of agclip imports these modules through the entry-point group `agclip.backends`;
a program imports `agclip` only.
"""

DEFAULT = "numpy"
"""The backend in which agclip makes arrays of Python numbers when no array says otherwise."""

STANDARD = ("array_api_strict", "ndonnx")
"""Libraries that need no adapter, since they follow the standard, and that a file may name."""

STORED_IN = {"sparse": "numpy"}
"""Libraries of sparse arrays that are made of another library's arrays, whose backend takes them.

The two may stand in one tree.
"""
