"""The jobs: each reads tables, makes one or two domain calls and writes tables."""
