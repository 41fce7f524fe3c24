"""Execution: a planned study goes in, its stages are trained, and results.h5 comes out.

In the order of a run:

- `workspace`: where a study is kept and what it runs on.
- `preflight`: every part of the study is used once before the run. It measures `costs`; `cost_cache` keeps them, and
  `forecast` turns them into time and disk space.
- `progress`: what is committed of every stage, and what is still to be trained.
- `scheduler`: the walk over the stage tree; each stage is handed to an executor as soon as its parent is complete.
- `executors`: where stages are trained. A new kind of executor is a module of that package.
- `observers`: plugins that receive every committed epoch during the run.
- `assembly`: committed stages put together as the study record that results.h5 holds.
"""
