"""Problem files: what is written is read back, optima are those of the reference, and no broken file is a traceback."""

import json
import random
import subprocess
import sys
from pathlib import Path

import highspy
import numpy as np
import pytest
import scipy.sparse as sp

import convexjax as cj
from convexjax.command_line import main
from convexjax.interop.cone_form import ConeForm
from convexjax.interop.files import ConicProgram, FileError, QuadraticProgram, SemidefiniteProgram, read, write
from convexjax.interop.files.programs import semidefinite_or_conic, sparse_pays

PROBLEMS = Path(__file__).parents[2] / "shared" / "problems"

MPS = """NAME          SMALL
ROWS
 N  COST
 L  LIMIT
 G  FLOOR
 E  SUM
COLUMNS
    X         COST         1.0   LIMIT        1.0
    X         SUM          1.0
    Y         COST         2.0   FLOOR        1.0
    Y         SUM          1.0
RHS
    RHS       LIMIT        4.0   FLOOR        1.0
    RHS       SUM          3.0   COST        -0.5
BOUNDS
 UP BND       X            1.5
QUADOBJ
    X         X            2.0
ENDATA
"""
SDPA = """"A comment: the largest t with [[2, 1], [1, 2]] - t I psd, t <= 5
1 = mDIM
2 = nBLOCK
(2, -1)
{-1.0}
0 1 1 1 -2.0
0 1 1 2 -1.0
0 1 2 2 -2.0
1 1 1 1 -1.0
1 1 2 2 -1.0
0 2 1 1 -5.0
1 2 1 1 -1.0
"""
# max 2 - X_11 - t with X_12 = X_22 = 1, so that X_11 >= 1, and t >= s exp(r / s), s = 2 r, x_0 <= 0
CBF = """# a comment
VER
3
OBJSENSE
MAX
PSDVAR
1
2
VAR
4 2
F 1
EXP 3
CON
4 2
L= 3
L- 1
OBJFCOORD
1
0 0 0 -1.0
OBJACOORD
1
1 -1.0
OBJBCOORD
2.0
FCOORD
2
0 0 1 0 0.5
1 0 1 1 1.0
ACOORD
3
2 2 1.0
2 3 -2.0
3 0 1.0
BCOORD
2
0 -1.0
1 -1.0
"""


def put(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_mps(tmp_path):
    program = read(put(tmp_path, "small.mps", MPS))
    assert program.describe() == "quadratic program: 2 variables, 1 equation, 2 inequalities, 3 bounds"
    # min x^2 + x + 2 y + 1/2, y = 3 - x, x <= 1.5, y >= 1: x = 1/2
    solution = program.solve(cj.Options())
    np.testing.assert_allclose(solution.x, [0.5, 2.5], atol=1e-7)
    np.testing.assert_allclose(solution.objective, 0.25 + 0.5 + 5.0 + 0.5, atol=1e-7)
    q, A = program.q + np.array([2 * 0.5, 0.0]), program.A.toarray()
    np.testing.assert_allclose(q + A.T @ solution.y, 0.0, atol=1e-6)


MORE = """* all kinds of rows and bounds
NAME MORE
ROWS
 N COST
 N OTHER
 E E1
 E E2
 L L1
 G G1
COLUMNS
 A COST 1 E1 1
 A OTHER 5
 B E1 1 E2 -1
 B L1 2
 C G1 1 E2 3
 D L1 1
RHS
 COST 2 E1 4
 L1 7
RANGES
 RNG E1 2 E2 -3
 RNG L1 5 G1 -6
BOUNDS
 UP BND A 1
 MI BND B
 UP BND B 3
 FX BND C 0.5
 FR BND D
QMATRIX
 A A 2
 A B 1
 B A 1
 B B 2
ENDATA
"""


@pytest.mark.parametrize("text", [MPS, MORE], ids=["small", "more"])
def test_mps_means_what_highs_reads(text, tmp_path):
    path, highs = put(tmp_path, "p.mps", text), highspy.Highs()
    program = read(path)
    highs.setOptionValue("output_flag", False)
    assert highs.readModel(str(path)) != highspy.HighsStatus.kError
    lp, hessian = highs.getModel().lp_, highs.getModel().hessian_
    lower = sp.csc_array((np.array(hessian.value_), np.array(hessian.index_), np.array(hessian.start_)))
    A = sp.csc_array(tuple(np.array(part) for part in (lp.a_matrix_.value_, lp.a_matrix_.index_, lp.a_matrix_.start_)))
    for ours, theirs in (
        (program.q, lp.col_cost_),
        (program.lb, lp.col_lower_),
        (program.ub, lp.col_upper_),
        (program.l, lp.row_lower_),
        (program.u, lp.row_upper_),
        (program.constant, lp.offset_),
        (program.A.toarray(), A.toarray()),
        (sp.tril(program.P).toarray(), lower.toarray()),
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_negative_upper_bound_alone_leaves_no_lower_one(tmp_path):
    """As CPLEX and Gurobi read it; HiGHS keeps zero, which makes the program infeasible."""
    program = read(put(tmp_path, "p.mps", MORE.replace("UP BND A 1", "UP BND A -1")))
    assert (program.lb[0], program.ub[0]) == (-np.inf, -1.0)


def test_sdpa(tmp_path):
    program = read(put(tmp_path, "small.dat-s", SDPA))
    assert program.describe() == "semidefinite program: 1 variable, 1 block of 2, 1 inequality"
    np.testing.assert_allclose(program.solve(cj.Options()).objective, -1.0, atol=1e-7)


def test_cbf(tmp_path):
    program = read(put(tmp_path, "small.cbf", CBF))
    # t >= s exp(1/2) is least at s = 0
    solution = program.solve(cj.Options())
    assert cj.Status(int(solution.status)) is cj.Status.SOLVED
    np.testing.assert_allclose(solution.objective, 1.0, atol=1e-6)


def conic_program(maximise=False):
    """One of all cones, with a solution, and random numbers of many digits."""
    rng = np.random.default_rng(3)
    kinds = {"zero": 1, "nonnegative": 2, "second_order": [3, 4], "semidefinite": [2, 3], "exponential": 1}
    A = rng.normal(size=(1 + 2 + 7 + 9 + 3 + 3, 4)) * (rng.random((25, 4)) < 0.6)
    A = sp.csc_array(A)
    form = ConeForm.build(**kinds, power=[0.3], entries=(np.zeros(0, int),) * 3)
    return ConicProgram(
        name="all", q=rng.normal(size=4), A=A, b=rng.normal(size=25), form=form, constant=0.1, maximise=maximise
    )


def quadratic_program():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(3, 3))
    return QuadraticProgram(
        name="quadratic",
        P=sp.csc_array(root @ root.T),
        q=rng.normal(size=3),
        A=sp.csc_array(rng.normal(size=(4, 3))),
        l=np.array([-np.inf, -1.0, 0.25, 0.0]),
        u=np.array([1.0, 2.0, 0.25, np.inf]),
        lb=np.array([0.0, -np.inf, -1.0]),
        ub=np.array([np.inf, 2.0, 1 / 3]),
        constant=1.5,
    )


def semidefinite_program():
    rng = np.random.default_rng(5)
    symmetric = lambda M: sp.csr_array((M + M.T) * (np.abs(M + M.T) > 0.7))
    blocks = (
        [symmetric(rng.normal(size=(3, 3))) for _ in range(3)],
        rng.normal(size=(3, 2)),
        [symmetric(rng.normal(size=(3, 3))) for _ in range(3)],
    )
    return SemidefiniteProgram(name="semidefinite", c=rng.normal(size=2), F=blocks)


def assert_same(program, other):
    for name, value in vars(program).items():
        found = getattr(other, name)
        if name == "F":
            for block, again in zip(value, found, strict=True):
                for matrix, second in zip(block, again, strict=True):
                    np.testing.assert_array_equal(*(m.toarray() if sp.issparse(m) else m for m in (matrix, second)))
        elif sp.issparse(value):
            difference = abs(sp.csr_array(found) - sp.csr_array(value))
            assert found.shape == value.shape
            assert difference.nnz == 0 or difference.max() <= 1e-14 * abs(value).max()
        elif isinstance(value, np.ndarray):
            np.testing.assert_allclose(found, value, rtol=1e-14)
        elif name != "name":
            assert found == value


@pytest.mark.parametrize(
    "program, name",
    [
        (quadratic_program(), "p.mps"),
        (quadratic_program(), "p.mps.gz"),
        (quadratic_program(), "p.npz"),
        (conic_program(), "p.cbf"),
        (conic_program(maximise=True), "p.cbf.bz2"),
        (conic_program(), "p.npz"),
        (semidefinite_program(), "p.dat-s.xz"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_is_written_is_read_back(program, name, tmp_path):
    write(program, tmp_path / name)
    assert_same(program, read(tmp_path / name))


def test_formats_that_cannot_hold_a_program(tmp_path):
    with pytest.raises(FileError, match=r"a ConicProgram cannot be written as '\.mps'"):
        write(conic_program(), tmp_path / "p.mps")


@pytest.mark.skipif(not PROBLEMS.is_dir(), reason="the reference problems are not beside the project")
@pytest.mark.parametrize(
    "kind, extension",
    [
        ("netlib", ".mps"),
        ("maros_meszaros", ".mps"),
        ("sdplib", ".dat-s"),
        ("cblib_exp", ".cbf"),
        ("cblib_socp", ".cbf"),
    ],
)
def test_reference_problems_survive(kind, extension, tmp_path):
    for path in sorted((PROBLEMS / kind).glob("*.npz"), key=lambda path: path.stat().st_size)[:5]:
        program = read(path)
        write(program, tmp_path / f"{path.stem}{extension}")
        assert_same(program, read(tmp_path / f"{path.stem}{extension}"))


def test_large_programs_are_solved_sparse(tmp_path):
    """min sum x, x_1 >= 1, x_{i + 1} >= x_i / 2, the last one an equation: x_i = 2^(1 - i)."""
    n = 300
    A = sp.diags_array([np.ones(n), -0.5 * np.ones(n - 1)], offsets=[0, -1]).tocsc()
    l = np.eye(n)[0]
    u = np.where(np.arange(n) == n - 1, 0.0, np.inf)
    free = np.full(n, np.inf)
    zero = sp.csc_array((n, n))
    program = QuadraticProgram(name="halves", P=zero, q=np.ones(n), A=A, l=l, u=u, lb=-free, ub=free)
    assert sparse_pays(program.P, program.A)
    write(program, tmp_path / "p.mps")
    solution = read(tmp_path / "p.mps").solve(cj.Options())
    assert solution.status == cj.Status.SOLVED
    np.testing.assert_allclose(solution.x, 0.5 ** np.arange(n), atol=1e-7)
    np.testing.assert_allclose(A.T @ solution.y, -np.ones(n), atol=1e-7)
    assert solution.y[:-1].max() < 1e-7


def test_a_block_of_both_kinds_is_a_matrix_inequality():
    form = ConeForm.build(
        zero=0,
        nonnegative=1,
        second_order=[],
        semidefinite=[2],
        exponential=0,
        power=[],
        entries=(np.zeros(0, int),) * 3,
    )
    A = sp.csc_array(np.array([[1.0], [1.0], [0.0], [1.0]]))
    program = ConicProgram(name="p", q=np.array([-1.0]), A=A, b=np.array([5.0, 2.0, np.sqrt(2.0), 2.0]), form=form)
    converted = semidefinite_or_conic(program)
    assert isinstance(converted, SemidefiniteProgram)
    np.testing.assert_allclose(converted.F[1][0].toarray(), [[2.0, 1.0], [1.0, 2.0]])


# ------------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("p.lp", "", r"unknown extension '\.lp'"),
        ("p", "", r"unknown extension ''"),
        ("p.dat-s", "1\n", r"ends after 1 lines"),
        ("p.dat-s", SDPA.replace("(2, -1)", "(2)"), r"line 4: expected the sizes of the blocks, 2 integers"),
        ("p.dat-s", SDPA + "3 1 1 1 1.0\n", r"line 13: there is no matrix 3 of 0\.\.1"),
        ("p.dat-s", SDPA + "1 1 1 3 1.0\n", r"line 13: entry \(1, 3\) lies outside of block 1 of size 2"),
        ("p.dat-s", SDPA + "1 1 1 1 nan\n", r"line 13: expected a finite number"),
        ("p.dat-s", SDPA + "1 1 1 1\n", r"line 13: expected an entry"),
        ("p.cbf", "VER\n9\n", r"line 2: version 9"),
        ("p.cbf", CBF.replace("L= 3", "L= 2"), r"line 16: the cones have 3 rows, expected 4"),
        ("p.cbf", CBF.replace("2 3 -2.0", "2 9 -2.0"), r"index 9 is not below 4"),
        ("p.cbf", CBF + "INT\n1\n0\n", r"only continuous"),
        ("p.cbf", CBF.replace("EXP 3", "EXP* 3"), r"cone 'EXP\*' is not supported"),
        ("p.cbf", "VER\n1\n", r"there are no variables"),
        ("p.mps", MPS.replace(" L  LIMIT", " Q  LIMIT"), r"line 4: expected the kind of a row, N, L, G or E"),
        ("p.mps", MPS.replace("LIMIT        1.0", "LIMITS       1.0"), r"line 8: there is no row 'LIMITS'"),
        ("p.mps", MPS.replace("LIMIT        4.0", "LIMIT        4,0"), r"line 13: expected a number, not '4,0'"),
        ("p.mps", MPS.replace("RANGES", "RANGE").replace("BOUNDS", "LIMITS"), r"line 15: expected a section"),
        ("p.mps", MPS.replace(" UP BND       X ", " BV BND       X "), r"line 16: an integer"),
        ("p.mps", MPS.replace("ENDATA", ""), r"ends without the line ENDATA"),
        ("p.mps", "nonsense", r"line 1: expected a section"),
        ("p.npz", "nonsense", r"is no archive"),
        ("p.mps.gz", "nonsense", r"cannot be read"),
    ],
)
def test_broken_files(name, text, message, tmp_path):
    with pytest.raises(FileError, match=message):
        read(put(tmp_path, name, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read(tmp_path / "p.mps")


def broken(text: bytes, chance: random.Random) -> bytes:
    """Cut off, its lines in another order, a number or a word changed, bytes changed."""
    lines = text.split(b"\n")
    kind = chance.randrange(5)
    if kind == 0:
        return text[: chance.randrange(len(text))]
    if kind == 1:
        chance.shuffle(lines)
        return b"\n".join(lines)
    if kind == 2:
        place = chance.randrange(len(lines))
        words = lines[place].split() or [b""]
        words[chance.randrange(len(words))] = chance.choice(
            [b"-1", b"1e400", b"nan", b"99999999999", b"x", b"", b"0.5"]
        )
        lines[place] = b" ".join(words)
        return b"\n".join(lines)
    if kind == 3:
        del lines[chance.randrange(len(lines))]
        return b"\n".join(lines)
    changed = bytearray(text)
    for _ in range(chance.randrange(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("extension", [".mps", ".dat-s", ".cbf", ".npz", ".cbf.gz"])
def test_no_broken_file_is_a_traceback(extension, tmp_path):
    chance, path = random.Random(0), tmp_path / f"p{extension}"
    if extension == ".mps":
        path.write_text(MPS)
    elif extension == ".dat-s":
        path.write_text(SDPA)
    else:
        write(conic_program(), path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(400):
        path.write_bytes(broken(whole, chance))
        try:
            read(path)
        except FileError:
            refused += 1
    assert refused > 100


# ------------------------------------------------------------------------------------------------- command line


def test_command_line(tmp_path, capsys):
    path, out, plot = put(tmp_path, "small.mps", MPS), tmp_path / "out.json", tmp_path / "plot.png"
    assert main(["solve", str(path), "--out", str(out), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert "quadratic program: 2 variables" in printed and "SOLVED" in printed and "6.25" in printed
    saved = json.loads(out.read_text())
    np.testing.assert_allclose(saved["x"], [0.5, 2.5], atol=1e-7)
    assert saved["status"] == "SOLVED" and plot.read_bytes()[:4] == b"\x89PNG"
    assert main(["solve", str(path), "--quiet", "--out", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["x"], [0.5, 2.5], atol=1e-7)


def test_picture_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("convexjax.command_line.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["solve", str(put(tmp_path, "small.mps", MPS)), "--plot", str(tmp_path / "plot.png")])
    assert stop.value.code == 2 and "convexjax[plot]" in capsys.readouterr().err


def test_exit_codes(tmp_path, capsys):
    solve = lambda name, text, *more: main(["solve", str(put(tmp_path, name, text)), "--quiet", *more])
    assert solve("a.mps", MPS.replace("RHS       SUM          3.0", "RHS       SUM          0.1")) == 3
    unbounded = MPS.replace("Y         COST         2.0", "Y         COST        -2.0").replace(
        "    Y         SUM          1.0\n", ""
    )
    assert solve("b.mps", unbounded) == 4
    assert solve("c.mps", MPS, "--max-iters", "1") == 1
    assert solve("d.mps", "nonsense") == 5
    assert "error: " in capsys.readouterr().err
    for wrong in (["--tol", "-1"], ["--out", "x.txt"], ["--max-iters", "x"]):
        with pytest.raises(SystemExit) as stopped:
            solve("a.mps", MPS, *wrong)
        assert stopped.value.code == 2


def test_in_a_process_of_its_own(tmp_path):
    path = put(tmp_path, "small.dat-s", SDPA)
    done = subprocess.run(
        [sys.executable, "-m", "convexjax", "solve", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (
        "objective   -1\n" in done.stdout
        or "objective   -0.99999" in done.stdout
        or "objective   -1.0000" in done.stdout
    )
