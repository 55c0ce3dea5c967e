"""The texts of all errors: a table for each room of the package, and what its calls may use."""
