"""Reports on a study: in the terminal, as one HTML page, as figures, and as a JSON document; without torch.

The input is a `cpframe.records.model.StudyRecord`; `cpframe.analysis.findings.Findings` has everything that is shown.

- `sections`: the list of sections, one module each, which terminal, page, JSON document and help share.
- `terminal`, `html`: the terminal report and the page; `json_document`, with `json_values`: the JSON document.
- `figures`: the figures, drawn with matplotlib.
- `wording`: findings in words; `formatting`: numbers, names and glyphs; `variant_names`: the names of variants.

To add a section, see `cpframe.report.sections`. ``README.md`` explains to users how to read a report.
"""
