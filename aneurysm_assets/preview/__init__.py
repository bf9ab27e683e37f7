"""The picture of a series: three planes through its middle, its points, its vessels.

It is made from the raw files alone. `stack` finds the volume that the images are, `decoding` reads
pixels, `window` turns them into grey, `overlay` colours the vessels, `panels` says what is shown
and `drawing` draws it; `picture` is the whole of it. Nothing here is imported at start-up: Pillow
and pydicom's decoders are an optional extra.
"""
