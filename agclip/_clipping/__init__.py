"""One call, in order: its plan, its arguments, measure, decide, apply, and the record."""
