"""Builders for tests, of cpframe and of plugins: studies that train in a second, and studies that need no training.

A plugin's test reads a spec that uses the component, and trains it::

    spec = small_spec(deficits={"fog": {"use": "fog", "density": 0.5}})
    record = run_study_inline(spec, tmp_path)
    assert {trajectory.status for trajectory in record.trajectories} == {"complete"}

`specs` builds small specs; `training` trains them in this process; `synthetic` makes the records of studies with known
effects, for reports and figures; `packages` writes a plugin package; `command` starts the command line. No module needs
pytest. Where to add: a builder goes into the module of its subject, and into ``__all__`` only if plugins need it.
"""

from cpframe.testing.command import run_command
from cpframe.testing.packages import write_package
from cpframe.testing.specs import small_spec
from cpframe.testing.synthetic import Design, make_study
from cpframe.testing.training import run_study_inline

__all__ = ["Design", "make_study", "run_command", "run_study_inline", "small_spec", "write_package"]
