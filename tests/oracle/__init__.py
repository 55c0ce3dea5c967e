"""Exact arithmetic that shares no code with agclip: what the tests compare with."""
