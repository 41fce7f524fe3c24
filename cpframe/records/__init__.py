"""The records: the data that packages exchange, as frozen dataclasses of numpy arrays, without torch and without files.

The store writes and reads them, the analysis turns them into findings, reports and exports show them. A new curve of a
training is a field of `History` in `model`; arithmetic on histories alone belongs in `histories`.
"""
