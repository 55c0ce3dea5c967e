"""Commands on training logs, and the readers of the formats."""
