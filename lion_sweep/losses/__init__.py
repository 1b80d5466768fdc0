"""Training losses: one per file, each reads `Representations` and returns a scalar."""
