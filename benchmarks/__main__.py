"""`python -m benchmarks COMMAND`: the commands are described in README.md beside this file."""

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import (
    batches,
    derivatives,
    families,
    first_call,
    gradients,
    mpc,
    networks,
    plots,
    problem_files,
    regression,
    regression_checks,
    report,
    second_process,
    single_precision,
    svm,
)
from benchmarks.derivative_peers import PEERS
from benchmarks.derivative_setting import COLUMNS
from benchmarks.gradient_solvers import SOLVERS as GRADIENT_SOLVERS
from benchmarks.programs import Program
from benchmarks.registry import SOLVERS
from benchmarks.runner import Row, Settings, run
from benchmarks.worker import Surroundings, missing


def main() -> None:
    """Read the command line and run the command."""
    arguments = parser().parse_args()
    arguments.run(arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = top.add_subparsers(required=True)
    sets = commands.add_parser("sets", help="standard test sets from files")
    sets.set_defaults(run=run_sets)
    sets.add_argument("--data", type=Path, required=True, help="folder with one folder of .npz files per set")
    sets.add_argument("--set", action="append", required=True, dest="sets", help="name of a set; may be repeated")
    sets.add_argument("--max-size", type=int, help="most variables and most rows (bounds are not rows)")
    sets.add_argument("--limit", type=int, help="only the first N problems of each set, smallest first")
    sets.add_argument("--names", type=lambda text: text.split(","), help="only these problems, separated by commas")
    add_common(sets, threads=0, repeats=0)
    matrices = commands.add_parser("sdp", help="semidefinite programs of real size: files, max-cut, a batch")
    matrices.set_defaults(run=run_sdp)
    matrices.add_argument("--data", type=Path, help="folder with one folder of .npz files per set")
    matrices.add_argument("--names", type=lambda text: text.split(","), help="only these problems of the files")
    matrices.add_argument("--max-variables", type=int, default=1500)
    matrices.add_argument("--max-side", type=int, default=520)
    matrices.add_argument("--nodes", default="", help="max-cut on random graphs with these numbers of nodes: 100,250")
    matrices.add_argument("--lanes", type=int, default=0, help="time a batch of so many small programs, too: 512")
    matrices.add_argument("--plot", help="file to draw the times of max-cut by nodes in")
    add_common(matrices, threads=0, repeats=1)
    matrices.set_defaults(solvers="convexjax_sdp,sdpa,clarabel")
    log_dets = commands.add_parser("maxdet", help="log det programs beside scikit-learn and cvxpy")
    log_dets.set_defaults(run=run_maxdet)
    log_dets.add_argument("--variables", default="30,100,300", help="of the graphical lasso, separated by commas")
    log_dets.add_argument("--lanes", type=int, default=0, help="time a batch of so many small programs, too: 512")
    log_dets.add_argument("--repeats", type=int, default=3)
    generated = commands.add_parser("families", help="generated programs")
    generated.set_defaults(run=run_families)
    generated.add_argument("--family", choices=families.FAMILIES, required=True)
    generated.add_argument(
        "--sizes", default="50x100x10,200x400x20", help="dense_qp: variables x inequalities x equalities"
    )
    generated.add_argument("--count", type=int, help="programs (of each size); 1 for dense_qp and six_cones, else 200")
    generated.add_argument("--plot", help="file to draw a picture in")
    add_common(generated, threads=1, repeats=0)
    first = commands.add_parser("first_call", help="time to trace, compile and run once, beside qpax")
    first.set_defaults(run=run_first_call)
    first.add_argument("--repeats", type=int, default=3)
    first.add_argument("--threads", type=int, default=0, help="threads of each solver; 0: not limited")
    first.add_argument("--timeout", type=float, default=300.0)
    first.add_argument("--json", help="file to write the results to")
    second = commands.add_parser("second_process", help="first answer of a process with a cache or an exported program")
    second.set_defaults(run=lambda a: second_process.print_table(second_process.measure(a.repeats, a.threads)))
    second.add_argument("--repeats", type=int, default=5)
    second.add_argument("--threads", type=int, default=0, help="threads of the solver; 0: not limited")
    add_derivatives(commands.add_parser("derivatives", help="which derivatives are right: classes x transforms"))
    single = commands.add_parser("float32", help="what single precision reaches")
    single.set_defaults(run=run_float32)
    single.add_argument("--files", type=Path, help="a folder with problem files, instead of random programs")
    add_batches(commands.add_parser("batches", help="small programs, alone and in batches"))
    fits = commands.add_parser("regression", help="least squares, lasso paths, cross-validation beside other libraries")
    fits.set_defaults(run=run_regression)
    fits.add_argument("--nist", type=Path, help="folder with the NIST problems, for the table of correct digits")
    fits.add_argument("--sslsq", type=Path, help="folder with sparse least-squares problems, for the part sets")
    fits.add_argument("--parts", type=listed, default=["digits", "least_squares", "lasso", "cross_validation"])
    fits.add_argument("--repeats", type=int, default=3)
    machines = commands.add_parser("svm", help="support vector machines beside scikit-learn")
    machines.set_defaults(run=run_svm)
    machines.add_argument("--data", type=Path, help="folder with files of classification problems, for `optima`")
    machines.add_argument("--parts", type=listed, default=["optima", "linear", "kernel", "grid", "relevance"])
    machines.add_argument("--max-rows", type=int, default=10_000, help="of the problems of `optima`")
    machines.add_argument("--sizes", type=listed, default=["5000", "20000"], help="rows for `kernel`")
    machines.add_argument("--repeats", type=int, default=1)
    machines.add_argument("--plot", help="file to draw `scaling` in")
    nets = commands.add_parser("networks", help="networks on real data, and convex problems as layers")
    nets.set_defaults(run=run_networks)
    nets.add_argument("--parts", type=listed, default=["digits", "tables", "sequence", "step_time", "many"])
    layers = commands.add_parser("cvxpy", help="problems of CVXPY as differentiable functions, beside cvxpylayers")
    layers.set_defaults(run=run_cvxpy)
    layers.add_argument("--names", type=listed, help="only these problems, separated by commas")
    layers.add_argument("--lanes", type=int, default=128)
    layers.add_argument("--repeats", type=int, default=3)
    add_gradients(commands.add_parser("gradients", help="the cost of a gradient beside the solve"))
    add_minimize(commands.add_parser("minimize", help="convex programs given as functions, beside other solvers"))
    add_gp(commands.add_parser("gp", help="geometric programs: large ones, the test set, batches, gate networks"))
    add_mpc(commands.add_parser("mpc", help="model predictive control: time of a step, warm-started, by horizon"))
    return top


def add_mpc(command: argparse.ArgumentParser) -> None:
    """What `mpc` can be told."""
    command.set_defaults(run=run_mpc)
    command.add_argument("--solvers", type=listed, default=["all"], help=f"all, or of {', '.join(mpc.PREPARE)}")
    command.add_argument("--horizons", type=listed, default=["30", "100"], help="separated by commas")
    command.add_argument("--plants", type=int, default=64, help="that convexjax solves in one call")
    command.add_argument("--peer-plants", type=int, default=4, help="that a peer solves one after the other")
    command.add_argument("--steps", type=int, default=200)
    command.add_argument("--timeout", type=float, default=900.0, help="seconds for all steps, compilation included")
    command.add_argument("--threads", type=int, default=1, help="threads of each solver; 0: not limited")
    command.add_argument("--cache", help="folder for JAX's compilation cache (none by default)")
    command.add_argument("--plot", help="file to draw the time by horizon in")
    command.add_argument("--markdown", help="file to write the table to")
    command.add_argument("--json", help="file to write the results to")


def add_derivatives(command: argparse.ArgumentParser) -> None:
    """What `derivatives` can be told."""
    command.set_defaults(run=run_derivatives)
    command.add_argument("--solvers", type=listed, default=["convexjax"], help=f"all, or of {', '.join(PEERS)}")
    command.add_argument("--cases", type=listed, default=list(derivatives.CASES), help=", ".join(derivatives.CASES))
    command.add_argument("--columns", type=listed, default=list(COLUMNS), help=", ".join(COLUMNS))
    command.add_argument("--tolerance", type=float, help="of the solves of convexjax; its default if not given")
    command.add_argument("--polish", action="store_true", help="polish the solutions of convexjax")
    command.add_argument("--timeout", type=float, default=300.0, help="seconds for one cell, compilation included")
    command.add_argument("--threads", type=int, default=0, help="threads of each solver; 0: not limited")
    command.add_argument("--cache", help="folder for JAX's compilation cache (none by default)")
    command.add_argument("--markdown", help="file to write the tables to")
    command.add_argument("--json", help="file to write the results to")


def add_batches(command: argparse.ArgumentParser) -> None:
    """What `batches` can be told."""
    command.set_defaults(run=run_batches)
    command.add_argument("--solvers", type=listed, default=["all"], help=f"all, or of {', '.join(batches.SOLVERS)}")
    command.add_argument(
        "--cases", type=listed, default=["all"], help=f"all, or of {', '.join(batches.CASES)}".replace("%", "%%")
    )
    command.add_argument("--tol", type=float, default=1e-8, help="tolerance of the certificates")
    add_timing(command)


def add_gradients(command: argparse.ArgumentParser) -> None:
    """What `gradients` can be told."""
    command.set_defaults(run=run_gradients)
    command.add_argument("--solvers", type=listed, default=["all"], help=f"all, or of {', '.join(GRADIENT_SOLVERS)}")
    command.add_argument("--cases", type=listed, default=list(gradients.CASES), help=", ".join(gradients.CASES))
    command.add_argument("--tol", type=float, default=1e-4, help="relative error of a lane that counts as right")
    add_timing(command)


def add_timing(command: argparse.ArgumentParser) -> None:
    """What every table of times can be told."""
    command.add_argument("--repeats", type=int, default=7)
    command.add_argument("--timeout", type=float, default=300.0, help="seconds for one answer, compilation included")
    command.add_argument("--threads", type=int, default=1, help="threads of each solver; 0: not limited")
    command.add_argument("--cache", help="folder for JAX's compilation cache (none by default)")
    command.add_argument("--markdown", help="file to write the tables to")
    command.add_argument("--json", help="file to write the results to")


def listed(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",")]


def add_common(command: argparse.ArgumentParser, threads: int, repeats: int) -> None:
    """What every comparison of solvers can be told."""
    command.add_argument("--solvers", default="convexjax,clarabel", help=f"of {', '.join(SOLVERS)}")
    command.add_argument("--tol", type=float, default=1e-8, help="tolerance of the certificate")
    command.add_argument("--f-tol", type=float, default=1e-6, help="relative tolerance of the optimal value")
    command.add_argument("--repeats", "--repeat", type=int, nargs="?", const=3, default=repeats)
    command.add_argument("--timeout", type=float, default=120.0, help="seconds for one answer")
    command.add_argument("--threads", type=int, default=threads, help="threads of each solver; 0: not limited")
    command.add_argument("--cache", help="folder for JAX's compilation cache (none by default)")
    command.add_argument("--json", help="file to write the results to")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings of a comparison."""
    solvers = tuple(arguments.solvers.split(","))
    unknown = [name for name in solvers if name not in SOLVERS]
    if unknown:
        raise SystemExit(f"unknown solver {', '.join(unknown)}; known: {', '.join(SOLVERS)}")
    return Settings(
        solvers=solvers,
        tolerance=arguments.tol,
        objective_tolerance=arguments.f_tol,
        repeats=arguments.repeats,
        timeout=arguments.timeout,
        surroundings=Surroundings(threads=arguments.threads, cache=arguments.cache),
    )


def run_sets(arguments: argparse.Namespace) -> None:
    """Problems from files."""
    compare(programs_of_sets(arguments), arguments)


def programs_of_sets(arguments: argparse.Namespace) -> Iterator[tuple[str, Program]]:
    """(set, program), set by set."""
    for name in arguments.sets:
        files = problem_files.select_files(arguments.data / name, arguments.max_size, arguments.names)
        for path in files[: arguments.limit]:
            yield name, problem_files.load(path)


def run_sdp(arguments: argparse.Namespace) -> None:
    """Semidefinite programs; the exit status says whether a claim of convexjax was false."""
    from benchmarks import semidefinite

    programs = semidefinite.programs(arguments)
    rows = compare(programs, arguments)
    if arguments.plot:
        nodes = {f"nodes {n}": int(n) for n in filter(None, arguments.nodes.split(","))}
        own = [row for row in rows if row.problem in nodes]
        plots.plot_sizes(own, nodes, arguments.plot, "nodes", f"max-cut relaxation, {report.processor()}")
    if arguments.lanes:
        print(report.aligned(semidefinite.batch(arguments.lanes, arguments.repeats)))
    raise SystemExit(any(row.false_claim for row in rows if row.solver == "convexjax_sdp"))


def run_maxdet(arguments: argparse.Namespace) -> None:
    """Log det programs."""
    from benchmarks import maxdet

    print(report.aligned(maxdet.table(arguments)))
    if arguments.lanes:
        print(report.aligned(maxdet.batch(arguments.lanes, arguments.repeats)))


def run_cvxpy(arguments: argparse.Namespace) -> None:
    """Problems of CVXPY as functions."""
    from benchmarks import cvxpy_functions

    print(report.aligned(cvxpy_functions.table(arguments)))


def run_families(arguments: argparse.Namespace) -> None:
    """Generated programs."""
    sizes = [tuple(map(int, size.split("x"))) for size in arguments.sizes.split(",")]
    count = arguments.count or (1 if arguments.family in ("dense_qp", "six_cones") else 200)
    rows = compare(families.programs(arguments.family, sizes, count), arguments)
    report.print_fastest(rows)
    if arguments.plot:
        plots.plot(rows, arguments.plot, arguments.tol, f"{arguments.family}, {report.processor()}")


def run_first_call(arguments: argparse.Namespace) -> None:
    """First calls in fresh processes."""
    rows = first_call.measure(arguments.repeats, arguments.timeout, arguments.threads)
    first_call.print_table(rows)
    if arguments.json:
        settings = Settings(solvers=("convexjax", "qpax"), surroundings=Surroundings(threads=arguments.threads))
        content = {"machine": report.machine(settings), "rows": rows}
        Path(arguments.json).write_text(json.dumps(content, indent=1) + "\n")


def run_float32(arguments: argparse.Namespace) -> None:
    """What single precision reaches."""
    if arguments.files:
        print(*single_precision.summary(list(single_precision.measure_files(arguments.files))), sep="\n")
    else:
        print(single_precision.markdown(single_precision.measure()))


def run_derivatives(arguments: argparse.Namespace) -> None:
    """The table of derivatives; the exit status says whether all of convexjax's hold."""
    solvers = chosen(arguments.solvers, PEERS, "solver")
    names, columns = chosen(arguments.cases, derivatives.CASES, "case"), chosen(arguments.columns, COLUMNS, "column")
    around = Surroundings(threads=arguments.threads, cache=arguments.cache)
    cells: list[derivatives.Cell] = []
    oracles: list[derivatives.Oracle] = []
    options = {"tolerance": arguments.tolerance, "polish": arguments.polish}
    for found in derivatives.measure(solvers, names, columns, options, arguments.timeout, around):
        print(derivatives.line(found), flush=True)
        if isinstance(found, derivatives.Cell):
            cells.append(found)
        else:
            oracles.append(found)
    skipped = [f"{name}: not installed ({PEERS[name].missing})" for name in solvers if PEERS[name].missing]
    print("", derivatives.text_tables(cells), "", derivatives.LEGEND, *skipped, sep="\n")
    facts = report.facts(around, derivatives.packages(solvers))
    write(arguments, derivatives.markdown_tables(cells), {"machine": facts} | derivatives.record(cells, oracles))
    raise SystemExit(0 if derivatives.holds(cells) else 1)


def run_gradients(arguments: argparse.Namespace) -> None:
    """The cost of gradients; the exit status says whether convexjax's are right and as cheap as wanted."""
    solvers = chosen(arguments.solvers, GRADIENT_SOLVERS, "solver")
    names = chosen(arguments.cases, gradients.CASES, "case")
    around = Surroundings(threads=arguments.threads, cache=arguments.cache)
    tables, results = [], []
    for answers, own in gradients.measure(names, solvers, arguments.repeats, arguments.tol, arguments.timeout, around):
        results += own
        tables.append((gradients.title(answers), gradients.rows(own)))
        print(f"\n{tables[-1][0]}\n{report.aligned(tables[-1][1])}", flush=True)
    absent = {name: missing(GRADIENT_SOLVERS[name].packages) for name in solvers}
    skipped = [f"{name}: not installed ({packages})" for name, packages in absent.items() if packages]
    print("", gradients.legend(arguments.tol), *skipped, sep="\n")
    facts = report.facts(around, gradients.packages(solvers))
    text = "\n\n".join(f"{title}\n\n{report.markdown(rows)}" for title, rows in tables) + "\n"
    write(arguments, text, {"machine": facts, "results": gradients.record(results)})
    raise SystemExit(0 if gradients.holds(results) else 1)


def run_batches(arguments: argparse.Namespace) -> None:
    """Times of small programs; the exit status says whether all answers of convexjax are certified."""
    solvers = chosen(arguments.solvers, batches.SOLVERS, "solver")
    names = chosen(arguments.cases, batches.CASES, "case")
    around = Surroundings(threads=arguments.threads, cache=arguments.cache)
    tables, results = [], []
    for own in batches.measure(names, solvers, arguments.repeats, arguments.tol, arguments.timeout, around):
        results += own
        tables.append((own[0].case, batches.rows(own)))
        print(f"\n{tables[-1][0]}\n{report.aligned(tables[-1][1])}", flush=True)
    print(f"\ncertified: lanes proved from outside to {arguments.tol:g}. In brackets: less than 99 %.")
    facts = report.facts(around, [batches.SOLVERS[name].package for name in solvers])
    text = "\n\n".join(f"{title}\n\n{report.markdown(rows)}" for title, rows in tables) + "\n"
    write(arguments, text, {"machine": facts, "results": [asdict(result) for result in results]})
    raise SystemExit(0 if all(r.certified == 1 for r in results if r.solver == "convexjax") else 1)


def add_minimize(command: argparse.ArgumentParser) -> None:
    """What `minimize` can be told."""
    command.set_defaults(run=run_minimize)
    command.add_argument("--programs", type=listed, help="names, separated by commas; all by default")
    command.add_argument(
        "--solvers", type=listed, help="convexjax, trust-constr, SLSQP, ipax, slsqp-jax; all by default"
    )
    command.add_argument("--repeats", type=int, default=3)
    command.add_argument("--limit", type=int, default=60, help="seconds for one solver on one program")
    command.add_argument("--batch", action="store_true", help="also 1,000 programs under vmap beside a loop over SciPy")
    command.add_argument("--cache", help="folder for JAX's compilation cache (none by default)")
    command.add_argument("--json", help="file to write the rows to")


def add_gp(command: argparse.ArgumentParser) -> None:
    """What `gp` can be told."""
    command.set_defaults(run=run_gp)
    command.add_argument("--parts", type=listed, default=["sparse", "batch", "examples", "surface"])
    command.add_argument("--solvers", type=listed, default=["convexjax", "clarabel", "scs"])
    command.add_argument("--size", default="3000x1000", help="variables x constraints of the large programs")
    command.add_argument("--data", type=Path, help="folder with the folder `gp` of problem files, for the part `set`")
    command.add_argument("--repeats", type=int, default=1)
    command.add_argument("--json", help="file to write the tables to")


def run_gp(arguments: argparse.Namespace) -> None:
    """Geometric programs; in this process."""
    from benchmarks import gp

    chosen(arguments.parts, gp.PARTS, "part")
    chosen(arguments.solvers, gp.SOLVERS, "solver")
    gp.run(arguments)


def run_minimize(arguments: argparse.Namespace) -> None:
    """Programs given as functions; in this process, for its modules are written in JAX."""
    from benchmarks import minimize

    minimize.run(arguments)


def run_mpc(arguments: argparse.Namespace) -> None:
    """Steps of model predictive control."""
    solvers = chosen(arguments.solvers, mpc.PREPARE, "solver")
    cases = [mpc.Case(int(horizon), arguments.plants, arguments.steps) for horizon in arguments.horizons]
    around = Surroundings(threads=arguments.threads, cache=arguments.cache)
    results = []
    for result in mpc.measure(solvers, cases, arguments.peer_plants, arguments.timeout, around):
        results.append(result)
        print(report.aligned(mpc.rows([result])), flush=True)
    print("", report.aligned(mpc.rows(results)), sep="\n")
    facts = report.facts(around, [mpc.PACKAGES[name] for name in solvers])
    content = {"machine": facts, "results": [asdict(result) for result in results]}
    write(arguments, report.markdown(mpc.rows(results)) + "\n", content)
    if arguments.plot:
        mpc.plot(results, arguments.plot, f"{arguments.plants} plants, {facts['processor']}")


def run_regression(arguments: argparse.Namespace) -> None:
    """The tables that were asked for."""
    tables = {
        "digits": lambda: regression.digits(arguments.nist) if arguments.nist else [["digits: give --nist"]],
        "least_squares": lambda: regression.least_squares(repeats=arguments.repeats),
        "lasso": lambda: regression.lasso(repeats=arguments.repeats),
        "cross_validation": lambda: regression.cross_validation(repeats=arguments.repeats),
        "sets": lambda: regression_checks.sets(arguments.sslsq) if arguments.sslsq else [["sets: give --sslsq"]],
        "constraints": regression_checks.constraints,
        "hypergradients": regression_checks.hypergradients,
        "real_data": regression_checks.real_data,
        "real_paths": regression_checks.real_paths,
    }
    for name in chosen(arguments.parts, tables, "part"):
        print(f"\n{name}\n{report.aligned(tables[name]())}", flush=True)


def run_svm(arguments: argparse.Namespace) -> None:
    """The tables that were asked for."""
    tables = {
        "optima": lambda: svm.optima(arguments.data, arguments.max_rows),
        "linear": lambda: svm.linear(repeats=arguments.repeats),
        "kernel": lambda: svm.kernel(tuple(map(int, arguments.sizes)), repeats=arguments.repeats),
        "grid": lambda: svm.grid(repeats=arguments.repeats),
        "relevance": svm.relevance,
        "head": svm.head,
        "scaling": lambda: svm.scaling(arguments.plot),
    }
    for name in chosen(arguments.parts, tables, "part"):
        print(f"\n{name}\n{report.aligned(tables[name]())}", flush=True)


def run_networks(arguments: argparse.Namespace) -> None:
    """The tables that were asked for."""
    for name in chosen(arguments.parts, networks.PARTS, "part"):
        print(f"\n{name}\n{report.aligned(networks.rectangular(networks.PARTS[name]()))}", flush=True)


def chosen(names: list[str], known: Iterable[str], kind: str) -> list[str]:
    """The names, checked; "all" stands for all that are known."""
    names = list(known) if names == ["all"] else names
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown {kind} {', '.join(unknown)}; known: {', '.join(known)}")
    return names


def write(arguments: argparse.Namespace, markdown: str, content: dict) -> None:
    """The files that were asked for, and a line about the machine."""
    facts = content["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    print(f"{facts['processor']}, {facts['cores']} cores, threads: {facts['threads per solver']}; {versions}")
    if arguments.markdown:
        Path(arguments.markdown).write_text(markdown)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report.finite(content), indent=1, allow_nan=False) + "\n")


def compare(programs: Iterator[tuple[str, Program]], arguments: argparse.Namespace) -> list[Row]:
    """Run, print as it goes, then the tables; write what was asked for."""
    settings = settings_of(arguments)
    rows = []
    for row in run(programs, settings):
        rows.append(row)
        print(report.line(row), flush=True)
    if rows:
        report.print_tables(rows, settings)
    if arguments.json:
        report.write_json(arguments.json, rows, settings)
    return rows


if __name__ == "__main__":
    main()
