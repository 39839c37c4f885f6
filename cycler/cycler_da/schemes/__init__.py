"""Analysis schemes, one published method per file."""
