"""`croissant.json`, which stands beside the unified table and describes the file that is there."""

import hashlib
import json
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from aneurysm_assets.schema.croissant import DataFile, croissant
from aneurysm_assets.schema.tables import UNIFIED_METADATA
from aneurysm_assets.storage.table_files import StoredTable
from aneurysm_assets.storage.table_scans import open_table

CROISSANT = "croissant.json"

_CHUNK = 1 << 20


def croissant_of(stored: StoredTable) -> bytes:
    """Return the description of the unified table as it was stored.

    Raises
    ------
    OSError
        The table cannot be read.
    """
    sha256 = hashlib.sha256()
    with open_table(stored.path) as file:
        for chunk in iter(partial(file.read, _CHUNK), b""):
            sha256.update(chunk)
        size = file.tell()
    described = croissant(
        UNIFIED_METADATA,
        DataFile(stored.path.name, size, sha256.hexdigest()),
        version=version("aneurysm-assets"),
        published=datetime.now(UTC).date(),
    )
    return json.dumps(described, indent=1, ensure_ascii=False).encode()
