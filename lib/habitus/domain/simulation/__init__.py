"""A simulated shop: raw event files with known attacks, for demos, tests and benchmarks."""
