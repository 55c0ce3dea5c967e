"""The golden vectors: `python -m vectors.write` in `tests/` writes them anew."""
