"""The programs that are audited, by suite: open, seeded, controls."""
