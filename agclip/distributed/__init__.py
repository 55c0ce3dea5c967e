"""Gradients that are held by several processes: their norm, from one vector of a few numbers."""
