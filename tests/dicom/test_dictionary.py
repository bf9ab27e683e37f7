import subprocess
import sys

import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from aneurysm_assets.dicom.dictionary import KNOWN, Entry, look_up


def test_every_line_is_that_of_pydicom():
    assert {
        name: Entry(tag_for_keyword(name), dictionary_VR(name), dictionary_VM(name))
        for name in KNOWN
    } == KNOWN


def test_any_other_keyword_is_that_of_pydicom_and_what_is_none_is_refused():
    assert "RepetitionTime" not in KNOWN
    assert look_up("RepetitionTime") == Entry(0x00180080, "DS", "1")
    with pytest.raises(ValueError, match="Nonsense is no DICOM keyword"):
        look_up("Nonsense")


def test_pydicom_is_not_loaded_to_find_what_is_always_read():
    program = (
        "import sys\n"
        "import aneurysm_assets.dicom.series\n"
        "import aneurysm_assets.loading.volume\n"
        "sys.exit('pydicom' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
