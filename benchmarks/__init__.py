"""Programs that print the ratios which the README quotes: `make bench`, or one with `python -m`."""
