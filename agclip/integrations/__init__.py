"""agclip in the places where frameworks clip: one module a framework, each importing it."""
