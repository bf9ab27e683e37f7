"""What a cluster needs beside the package: its configuration, and servers to try it with."""
