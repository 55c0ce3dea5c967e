"""The checks of the suite, one file a subject."""
