"""How much of a file is read before it is refused; why, stands at each limit."""

MAX_FRAMES = 100_000
"""Images in one DICOM file. No scanner writes more; a header that claims more is damaged."""

MAX_INFLATED_BYTES = 256 << 20
"""Bytes of a deflated data set, its pixels included: 1 MB of a file can become 1 GB."""

MAX_ITEMS = 250_000
"""Items of sequences in a deflated data set, or of the functional groups: pydicom takes some 60
microseconds and 2 kB for each. 10,000 frames with 20 items each have 200,000."""

MAX_HEADER_BYTES = 128 << 20
"""Bytes that pydicom reads of one header: of a value of undefined length that is no sequence it
reads all, to look for its end. Pixels are not read."""

MAX_ELEMENTS = 100_000
"""Elements of the top level: pydicom takes some 9 microseconds for each."""

MAX_GROUP_ELEMENTS = 1_000_000
"""Elements and items of functional groups that pydicom reads: four for each of `MAX_ITEMS`."""

MAX_VALUE_BYTES = 1 << 20
"""Bytes of a value that is decoded. The longest text whose length PS3.5 6.2 limits has 10,240
characters."""

MAX_IMAGE_PIXELS = 1 << 25
"""Pixels of an image that is decoded for a picture, or as one of a volume: decoders take up to 22
bytes for each. The largest mammograms have 28 million."""

MAX_NIFTI_BYTES = 4 << 30
"""Bytes of the voxels of vessel labels, inflated. The largest series, 1,441 slices of 512 x 512
as float64, has 3.0 GB."""

MAX_NIFTI_PLANE_BYTES = 128 << 20
"""Bytes of a plane in which a point is looked up, of a compressed file or one in a bucket: it is
held in memory, which a file on a disk is not. 4096 x 4096 as float64."""

MAX_NEIGHBOURHOOD_VOXELS = 1 << 21
"""Voxels around a point in which the nearest vessel is searched: within 5 mm, voxels of 0.08 mm."""
