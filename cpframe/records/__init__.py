"""The data that cross every seam: frozen dataclasses of numpy arrays, without torch and without files.

The store writes and reads them, analysis turns them into findings, reports and exports show them. A new curve of a
training is a field of `History` in `model`; what is computed from histories alone belongs here as well.
"""
