"""Findings in, reports out: in the terminal, as one page of HTML, as figures, as JSON. No torch in here.

`terminal`, `html` and `figures` show the findings of `cpframe.analysis`, `json_document` gives them to programs;
`wording` puts findings into words once for all of them, `formatting` numbers and `variant_names` variants.
"""
