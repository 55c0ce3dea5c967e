"""`agclip check`: versions, and every clip once on each backend."""
