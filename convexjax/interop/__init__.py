"""Doors to other libraries. Each module imports its library, an extra, only when it is itself imported:

- `convexjax.interop.cvxpy`: solve problems of CVXPY, or make JAX functions of them.
- `convexjax.interop.files`: read, solve and write problem files.
- `convexjax.interop.sklearn`: estimators of scikit-learn.
- `convexjax.interop.scipy`: `linprog` and `nnls` as JAX functions.
"""
