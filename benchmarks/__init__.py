"""syncx beside its peers, measured in one interleaved run: `python -m benchmarks`.  See README.md here."""
