"""One module an asset, thin: what it is, what it reads, what it records."""
