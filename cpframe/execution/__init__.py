"""A planned study brought to its end: a `Study` goes in, stages are trained, results.h5 comes out.

`preflight` uses every part once before the run, `scheduler` hands stages to an executor as their parents are done,
`executors` is where they train, `assembly` puts committed stages together, `observers` are told what is committed.
Another place to train on is a module in `executors`.
"""
