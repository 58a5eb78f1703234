"""What the rows of all modules have in common."""

from __future__ import annotations

from tests.faults.table import modules


def test_no_two_faults_have_the_same_name_or_happen_in_the_same_way() -> None:
    faults = [fault for module in modules() for fault in module.FAULTS]
    assert len({fault.name for fault in faults}) == len({fault.happens for fault in faults}) == len(faults)


def test_every_group_has_a_heading_and_a_sentence_and_every_row_all_of_its_columns() -> None:
    for module in modules():
        assert module.SUBJECT
        assert (module.__doc__ or "").strip().endswith(".")
        for fault in module.FAULTS:
            assert all((fault.name, fault.happens, fault.verdict, fault.sentence.replace("...", "").strip())), fault
