"""A study in a real IPython kernel: what a cell shows, and the stop button."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cpframe.testing.specs import SMALL

pytestmark = [pytest.mark.needs_extra("dev", "notebook", "plot"), pytest.mark.long]

LONG = {"protocols": [{"use": "removal", "until": [0, 1], "recovery": 600}]}
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Notebook:
    """A kernel with the client that runs cells in it."""

    manager: Any
    client: Any

    def run(self, code: str, act: Callable[[], None] = lambda: None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Run a cell; return its reply, and everything that it shows. `act` is called once the cell has been sent."""
        shown: list[dict[str, Any]] = []
        sent = self.client.execute(code)
        act()
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != sent:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            shown.append(message)
        reply = self.client.get_shell_msg(timeout=120)
        assert reply["parent_header"]["msg_id"] == sent
        return reply["content"], shown


def mime_types(shown: list[dict[str, Any]], kind: str) -> set[str]:
    return {mime for one in shown if one["msg_type"] == kind for mime in one["content"]["data"]}


def printed(shown: list[dict[str, Any]]) -> str:
    return "".join(one["content"]["text"] for one in shown if one["msg_type"] == "stream")


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    cell = f"import cpframe\nSPEC, LONG = {SMALL!r}, {LONG!r}"
    made = Notebook(manager, client)
    try:
        assert made.run(cell)[0]["status"] == "ok"
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore::ResourceWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_a_cell_shows_progress_and_results_and_can_be_stopped_and_run_again(notebook: Notebook, tmp_path: Path) -> None:
    reply, shown = notebook.run("results = cpframe.run(SPEC, out='short', workers=1)\nresults")
    assert reply["status"] == "ok", reply
    assert WIDGET in mime_types(shown, "display_data")  # the bar
    assert "text/html" in mime_types(shown, "execute_result")
    reply, shown = notebook.run("cpframe.report(results)")
    assert "text/html" in mime_types(shown, "execute_result")

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "store").rglob("history.h5")) and time.monotonic() < deadline:
            time.sleep(0.05)
        notebook.manager.interrupt_kernel()

    run = "results = cpframe.run(SPEC, overrides=LONG, out='long', store='store', workers=1)"
    plan = "print(cpframe.plan(SPEC, overrides=LONG, out='long', store='store').epochs_to_train)"
    reply, _ = notebook.run(run, stop)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    _, shown = notebook.run(plan)
    assert 0 < int(printed(shown)) < 600 + 601
    reply, _ = notebook.run(run)
    assert reply["status"] == "ok", reply
    _, shown = notebook.run("print({one.status for one in results.study.trajectories})")
    assert printed(shown) == "{'complete'}\n"
    _, shown = notebook.run(plan)
    assert printed(shown) == "0\n"
