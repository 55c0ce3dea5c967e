"""`agclip bench`: agclip against what else clips in each library."""
