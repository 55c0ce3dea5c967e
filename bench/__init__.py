"""Benchmarks: agclip against the clippers of other libraries, on the same data in the same run."""
