"""The report as one HTML page, which needs no network, script, font or other file.

`page.html_page` takes a study, draws all figures with matplotlib, and puts the sections of `cpframe.report.sections`
under one head; `layout.Page` is the argument of every section. `verdicts`, `accuracy`, `fisher` and `about` have the
contents of the sections; `markup` makes elements and escapes all text, `labels` names deficits, variants and timelines,
`inline_svg` puts figures into the page, and ``page.css`` has the styles. The words are in `cpframe.report.wording`.

A new section of the page is a function from a `Page` to markup, named in the `Section` of its module.
"""
