"""Pure domain code: frames, columns and arrays in, the same out; no reading, writing or clock."""
