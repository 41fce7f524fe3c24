"""Execution: a planned study goes in, its stages are trained, and results.h5 comes out.

In the order of a run:

- `workspace`: where a study is kept and what it runs on.
- `preflight`: the check before a run, which uses every part once and measures `costs`; `cost_cache` keeps them, and
  `forecast` turns them into time and disk space.
- `progress`: the committed part of every stage, and the stages that remain to be trained.
- `scheduler`: the order of the stages; each stage is handed to an executor as soon as its parent is complete.
- `executors`: where stages are trained. A new kind of executor is a module of that package.
- `observers`: plugins that receive every committed epoch during the run.
- `assembly`: the study record of results.h5, made from committed stages.
"""
