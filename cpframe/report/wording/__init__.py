"""Findings in words: every sentence, column name and table cell stands here once, for terminal, page and figures.

The functions take findings of `cpframe.analysis` and return plain strings, without layout or markup.

- `verdicts`: the verdict on a deficit, its reasons and its critical period.
- `accuracy`: the tables of the removal and sliding protocols.
- `fisher`: phases, information plasticity, and the fit of Fisher information to sensitivity.
- `study`: the facts about a study, its other metrics and its controls.

A new section of the report puts its words into a module of its own here if the terminal and the page share them.
"""
