"""Norms and coefficients that neither overflow, underflow nor depend on the order of a sum."""
