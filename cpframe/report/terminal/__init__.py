"""The report in the terminal, by rich: `render` prints it, with one module for each section.

`layout` has the parts that sections are made of, `charts` curves of braille dots.
"""
