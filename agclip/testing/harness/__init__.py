"""What checks are made of: the library under test, its arrays, expectations and draws."""
