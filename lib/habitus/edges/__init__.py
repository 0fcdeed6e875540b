"""The outside world: one module, and one importer, for each system habitus talks to."""
