"""Commands on files of arrays, and the readers of the formats."""
