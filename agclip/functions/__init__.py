"""The public functions: signature, documentation and the call of the pipeline."""
