"""Array libraries: the record of one, its default kernels, and which one an array belongs to."""
