"""What users may pass: any array-like of any real type. What cannot be a problem is said while tracing."""

import importlib.util
from typing import Any

import jax
import jax.experimental.sparse
import jax.numpy as jnp
import numpy as np

from convexjax.options import Options
from convexjax.solution import Solution
from convexjax.sparse_matrix import SparseMatrix


class DataTypeError(TypeError, ValueError):
    """Data that are not real numbers."""


def floating(**arguments):
    """The arguments as arrays of one floating type (None stays None), in the order given.

    The type is that of the floating arrays among them, at least float32; lists and Python numbers follow it, integers
    and booleans become floating.
    """
    arrays, types = {}, []
    for name, value in arguments.items():
        if value is None:
            continue
        weak = isinstance(value, list | tuple | int | float)
        if not hasattr(value, "dtype"):
            try:
                value = np.asarray(value) if not _holds_tracer(value) else jnp.asarray(value)
            except (ValueError, TypeError) as error:
                raise DataTypeError(f"{name} must be an array of real numbers: {error}") from None
        if not jnp.issubdtype(value.dtype, jnp.floating):
            if not (jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == bool):
                raise DataTypeError(f"{name} must hold real numbers, got dtype {value.dtype}.")
        elif not weak:
            types.append(value.dtype)
        arrays[name] = value
    default = jnp.result_type(float)
    # NumPy's promotion: JAX's may be set to refuse mixtures
    dtype = np.result_type(np.float32, *(t if t != jnp.bfloat16 else np.float16 for t in types)) if types else default
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return [jnp.asarray(arrays[name], dtype) if name in arrays else None for name in arguments]


def floating_tree(name: str, tree):
    """A pytree of floating arrays, from one of arrays and Python numbers of a floating type."""
    leaves = jax.tree.leaves(tree)
    if not leaves or not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        types = sorted({str(jnp.result_type(leaf)) for leaf in leaves})
        raise ValueError(f"{name} must be a pytree of floating arrays, got {', '.join(types) or 'no arrays'}.")
    return jax.tree.map(jnp.asarray, tree)


def require_key(key) -> None:
    """Raise `ValueError` for what is no random key."""
    if not hasattr(key, "dtype"):
        raise ValueError(f"key must be a random key, such as jax.random.key(0), got {key!r}.")


def floating_matrices(matrices: dict, vectors: dict) -> list:
    """As `floating`. If one of the matrices is sparse (of scipy.sparse or jax.experimental.sparse), all of them become
    `SparseMatrix`."""
    if not any(is_sparse(value) for value in matrices.values()):
        return floating(**matrices, **vectors)
    if importlib.util.find_spec("qdldl") is None:
        raise ImportError("sparse matrices are factorised by qdldl: pip install 'convexjax[sparse]'.")
    parts = {name: None if value is None else _coordinates(name, value) for name, value in matrices.items()}
    values = {name: None if part is None else part.values for name, part in parts.items()}
    (*values,) = floating(**values, **vectors)
    taken = [
        part and SparseMatrix(value, part.rows, part.columns, part.shape)
        for part, value in zip(parts.values(), values, strict=False)
    ]
    return [*taken, *values[len(taken) :]]


def is_sparse(value) -> bool:
    """Whether this is a sparse matrix of SciPy, JAX or our own."""
    return isinstance(value, SparseMatrix | jax.experimental.sparse.JAXSparse) or hasattr(value, "tocoo")


def _coordinates(name: str, value) -> SparseMatrix:
    """A matrix by its entries, of whatever type these are; duplicates added up, if the entries are known now."""
    if isinstance(value, SparseMatrix):
        return value
    if isinstance(value, jax.experimental.sparse.JAXSparse):
        if isinstance(value, jax.experimental.sparse.BCSR):
            value = value.to_bcoo()
        elif not isinstance(value, jax.experimental.sparse.BCOO):
            raise ValueError(f"{name} must be BCOO, BCSR or of scipy.sparse, got {type(value).__name__}.")
        if value.n_batch or value.n_dense or value.ndim != 2:
            raise ValueError(f"{name} must be a sparse matrix without batch or dense axes; for a batch use jax.vmap.")
        rows, columns = value.indices.T.astype(jnp.int32)
        # entries outside of the matrix stand for none
        there = (rows < value.shape[0]) & (columns < value.shape[1])
        entries, rows, columns = (jnp.where(there, part, 0) for part in (value.data, rows, columns))
        return SparseMatrix(entries, rows, columns, (value.shape[0], value.shape[1]))
    if hasattr(value, "tocoo"):
        value = value.tocsr().tocoo()
        return SparseMatrix(
            value.data, jnp.asarray(value.row, jnp.int32), jnp.asarray(value.col, jnp.int32), value.shape
        )
    (value,) = floating(**{name: value})
    require_shape(name, value, (None, None))
    rows, columns = (index.reshape(-1).astype(np.int32) for index in np.indices(value.shape))
    return SparseMatrix(value.reshape(-1), jnp.asarray(rows), jnp.asarray(columns), value.shape)


def require_given(**arguments) -> None:
    """Raise `ValueError` for data that a problem cannot do without."""
    missing = [name for name, value in arguments.items() if value is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} is None, expected an array.")


def rank(value) -> int:
    """Number of axes of an array, or of nested lists of numbers."""
    if hasattr(value, "ndim"):
        return value.ndim
    return 1 + rank(value[0]) if isinstance(value, list | tuple) and len(value) else 0


def _holds_tracer(value) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def require_shape(name: str, array, shape: tuple, why: str = "") -> None:
    """Raise `ValueError` unless `array` has `shape` (None stands for any size)."""
    got = array.shape
    if len(got) == len(shape) and all(w is None or g == w for g, w in zip(got, shape, strict=True)):
        return
    wanted = "(" + ", ".join("any" if w is None else str(w) for w in shape) + ("," if len(shape) == 1 else "") + ")"
    hint = ""
    if len(shape) == 1 and len(got) == 2 and 1 in got:
        hint = f" Pass {name}.ravel()."
    elif len(shape) == 2 and len(got) == 1 and shape[1] in (None, got[0]):
        hint = f" For a single row pass {name}[None, :]."
    elif len(got) == len(shape) + 1:
        hint = " For a batch of problems use jax.vmap."
    raise ValueError(f"{name} has shape {got}, expected {wanted}{', ' + why if why else ''}.{hint}")


def require_together(**arguments) -> None:
    """Raise `ValueError` if some of the arguments are given and others not."""
    missing = [name for name, value in arguments.items() if value is None]
    if missing and len(missing) < len(arguments):
        given = [name for name in arguments if name not in missing]
        raise ValueError(f"{', '.join(given)} given without {', '.join(missing)}; pass both or neither.")


def symmetric(P):
    """The symmetric part: 1/2 x'Px depends on nothing else. Its gradient is that of this rule."""
    if isinstance(P, SparseMatrix):
        return P.symmetrised()
    return None if P is None else (P + jnp.swapaxes(P, -1, -2)) / 2


def checked_options(options: Options | None) -> Options:
    """The options, validated; the defaults for None."""
    if options is None:
        return Options()
    if not isinstance(options, Options):
        raise ValueError(f"options must be a convexjax.Options, got {type(options).__name__}.")
    options.validate()
    return options


def checked_guess(warm_start: Solution, **like) -> list:
    """The named fields of a `Solution` of a similar problem, with the shapes of the arrays in `like` (or of tuples of
    arrays) and the type of the first; None where `like` is None, for the problem has no such constraints."""
    if not isinstance(warm_start, Solution):
        raise ValueError(f"warm_start must be a Solution, got {type(warm_start).__name__}.")
    dtype, guess = jax.tree.leaves(like)[0].dtype, []
    for name, wanted in like.items():
        value, name = getattr(warm_start, name), f"warm_start.{name}"
        several = isinstance(wanted, tuple)
        if wanted is None or (several and not wanted):
            guess.append(wanted)
        elif value is None:
            raise ValueError(f"{name} is None, but the problem has such constraints.")
        elif several and not (isinstance(value, tuple | list) and len(value) == len(wanted)):
            raise ValueError(f"{name} must be a tuple of {len(wanted)} arrays, got {type(value).__name__}.")
        else:
            names = [f"{name}[{i}]" for i in range(len(wanted))] if several else [name]
            parts = floating(**dict(zip(names, value if several else [value], strict=True)))
            for part_name, part, like_it in zip(names, parts, wanted if several else [wanted], strict=True):
                require_shape(part_name, part, like_it.shape)
            parts = tuple(part.astype(dtype) for part in parts)
            guess.append(parts if several else parts[0])
    return guess


def rows_or_empty(matrix, vector, n: int, dtype, is_sparse: bool = False) -> tuple[Any, jax.Array]:
    """A constraint block, or one without rows."""
    if matrix is not None:
        return matrix, vector
    empty = SparseMatrix.zeros((0, n), dtype) if is_sparse else jnp.zeros((0, n), dtype)
    return empty, jnp.zeros(0, dtype)
