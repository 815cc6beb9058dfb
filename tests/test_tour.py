"""The tour: every row is solved to its published digits, and a row that is not fails the program."""

import dataclasses

import pytest

from convexjax import tour

pytestmark = pytest.mark.core

AFIRO = tour.INSTANCES[0]


@pytest.mark.parametrize("instance", tour.INSTANCES, ids=lambda instance: instance.name)
def test_row_is_solved_to_its_published_digits(instance):
    row = tour.solve(instance)
    assert row.passed, tour.line(tour.cells(row))


def test_table_is_aligned_and_exit_code_is_zero(capsys):
    assert tour.main([AFIRO]) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert row.startswith("afiro")
    assert row.index("SOLVED") == header.index("status")
    assert "FAIL" not in row


@pytest.mark.parametrize(
    "wrong", [{"optimum": "-464.75314290"}, {"status": tour.INFEASIBLE}], ids=["optimum", "status"]
)
def test_wrong_answer_gives_exit_code_one(capsys, wrong):
    assert tour.main([AFIRO, dataclasses.replace(AFIRO, **wrong)]) == 1
    output = capsys.readouterr().out
    assert output.count("FAIL") == 1
    assert "1 of 2 solved" in output
