"""A round that a teacher's labels judge: promoted, and nothing of it is called accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from round_rig import CONFIG, Rig

from dance_ondevice.daemon.config.sections import Labels
from dance_ondevice.daemon.rounds import teaching_record
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_models_at_hand")]


def test_a_teachers_labels_judge_in_a_column_of_their_own(
    paths: StatePaths, store: Store, add_street: Any, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher.onnx"
    teacher.write_bytes(b"is not run here")
    labels = Labels(teacher=str(teacher))
    rig = Rig(paths, store, msgspec.structs.replace(CONFIG, labels=labels))
    add_street(store, 40)
    rig.store.submit(lambda db: db.execute("update samples set label_source = 'teacher'")).result()
    refused = rig.run()
    assert isinstance(refused, str)
    assert "cannot judge" in refused

    rig.context.config = msgspec.structs.replace(
        CONFIG, labels=msgspec.structs.replace(labels, teacher_may_judge=True)
    )
    outcome = rig.round()
    assert outcome.outcome == "promoted", outcome.reasons
    assert outcome.miou_before is outcome.miou_after is outcome.miou_frozen is None
    (row,) = rig.rows("select * from rounds")
    assert "the teacher's labels judge it: labels.teacher_may_judge is true" in row["reason"]
    assert row["miou_after"] is None
    assert "agreement with the teacher" in " ".join(outcome.reasons)
    assert "mIoU" not in " ".join(outcome.reasons)
    gate = rig.versions.card(outcome.version or "")["gate"]
    assert gate["by_teacher"]["agreement_after"] > gate["by_teacher"]["agreement_before"]
    assert gate["by_teacher"]["table"]["units"] > 0
    assert not gate["table"]
    assert "iou_per_class" not in gate

    # A person's labels that show how seldom it is right take it away again.
    (paths.root / "teaching").mkdir()
    facts = teaching_record.configured(rig.context.config, rig.versions)
    assert isinstance(facts, teaching_record.TeacherFacts)
    teaching_record.keep_calibration(
        paths, facts, rig.context.config, [0.5] * len(CONFIG.model.classes), 30, frames=[(6, 10)] * 30
    )
    assert not rig.procedure.teacher_judges()
    teaching_record.keep_calibration(paths, facts, rig.context.config, [0.5] * len(CONFIG.model.classes), 30)
    assert not rig.procedure.teacher_judges()
