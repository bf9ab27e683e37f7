"""Programs that measure the claims of docs/performance.md as ratios within a run: `make bench`."""
