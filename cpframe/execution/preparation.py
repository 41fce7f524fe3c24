"""The one way from a checked spec to a study that can be planned or run."""

from __future__ import annotations

from dataclasses import dataclass

from cpframe.execution.progress import StudyProgress, read_progress
from cpframe.execution.workspace import RunOptions, Workspace, open_workspace
from cpframe.plan.identity import check_sources, data_determinants, determinants, with_data
from cpframe.plan.stages import Study, plan
from cpframe.spec.model import Spec


@dataclass(frozen=True)
class PreparedStudy:
    """A study, ready to be planned or run.

    Attributes:
        spec: the checked spec, with the fingerprints of the data that its deficits show.
        study: the trajectories and stages of the spec.
        workspace: where the study is kept and what it runs on.
        progress: what of the study is in the store.
    """

    spec: Spec
    study: Study
    workspace: Workspace
    progress: StudyProgress


def prepare_study(spec: Spec, options: RunOptions) -> PreparedStudy:
    """Lay out the study of a spec and read its progress; nothing is written.

    Raises:
        SpecError: when the device does not exist, or cannot do what the spec asks for; or when a plugin was edited
            after this process imported it.
        DataError: when a data set cannot be fingerprinted.
        StoreError: when the store cannot be read.
    """
    workspace = open_workspace(spec, options)
    check_sources(spec)
    spec = with_data(spec, workspace.data_folder)
    facts = determinants(workspace.numerics) | data_determinants(spec, workspace.data_folder)
    study = plan(spec, facts)
    return PreparedStudy(spec, study, workspace, read_progress(study, workspace))
