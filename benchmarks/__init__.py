"""Measurements: `speed/` holds one command per figure. Imported as `dataenv.benchmarks`."""
