"""Trees of arrays: taken apart into leaves, checked, and put together again."""
