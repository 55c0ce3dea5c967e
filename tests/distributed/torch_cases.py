"""What is PyTorch's own: DTensors, and process groups beside other libraries."""

from __future__ import annotations


def found_by(rank, groups, pairs):
    """Return what every case gives on this rank."""
    return {}
