"""Data sets of the RSNA data's shape that we may hand out: a small one to try, a large for load.

`small` lists what the small one holds, series by series; `load` writes the large one. How either
takes its place as a `raw` directory, and never that of anyone else's data, stands in `place`.
"""

from aneurysm_assets.sample.load import write_load_sample
from aneurysm_assets.sample.small import write_sample

__all__ = ["write_load_sample", "write_sample"]
