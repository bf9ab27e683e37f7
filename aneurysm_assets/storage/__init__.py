"""Files and objects: places on a disk or in a bucket, whole writes, reading ahead, fingerprints.

Where the files of this project lie is told by `settings`; what stands in them by `schema`.
"""
