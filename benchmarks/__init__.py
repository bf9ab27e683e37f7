"""Programs that measure what the README claims, each by ratios within one run: `make bench`."""
