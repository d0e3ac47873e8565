"""What validation costs SFT: copies into slots that are there, told as a metric, and nothing for the first one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.context import StopRequested
from engine.weight_sync.slots import Slot
from store.records import Scalar
from tests.support.stages_alone import HandWorker, StopsAt, prepared, train

SETTINGS = ("sft.steps=6", "sft.validate_every=1", "sft.checkpoint_every=0")


def test_validations_in_flight_get_their_slots_from_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = prepared(tmp_path, *SETTINGS)
    makers: list[threading.Thread] = []
    make = Slot.__init__

    def noted(slot: Slot, path: Path, size: int) -> None:
        makers.append(threading.current_thread())
        make(slot, path, size)

    monkeypatch.setattr(Slot, "__init__", noted)
    worker = HandWorker(waits=lambda job: True)  # as one that is still starting
    with pytest.raises(StopRequested):
        train(context, "sft", worker, StopsAt(5))
    asked = [job.weights for job in worker.open.values()]
    assert [weights.version for weights in asked] == [0, 1, 2, 3, 4, 5]
    assert asked[0].location == context.profile.model.source
    assert len({weights.location for weights in asked[1:]}) == 5
    assert len(makers) == 5 + 1  # and one in reserve
    assert threading.current_thread() not in makers


def test_its_cost_is_a_metric_of_every_step(tmp_path: Path) -> None:
    context, told = prepared(tmp_path, *SETTINGS, "sft.validate_every=3")
    train(context, "sft", HandWorker())
    spent = {
        row.step: row.value for row in told if isinstance(row, Scalar) and row.metric == "sft/time/validate"
    }
    whole = {row.step: row.value for row in told if isinstance(row, Scalar) and row.metric == "sft/time/step"}
    assert set(spent) == {1, 2, 3, 4, 5, 6}
    assert all(0.0 < spent[step] < whole[step] for step in spent)
