"""Real data for the fits: scikit-learn's diabetes and linnerud, and Longley's from NIST."""

import numpy as np

# NIST, Statistical Reference Datasets, Longley: employment in the United States by the deflator of prices, gross
# national product, the unemployed, the armed forces, the population from 14 years on, and the year.
LONGLEY = """
60323 83.0 234289 2356 1590 107608 1947
61122 88.5 259426 2325 1456 108632 1948
60171 88.2 258054 3682 1616 109773 1949
61187 89.5 284599 3351 1650 110929 1950
63221 96.2 328975 2099 3099 112075 1951
63639 98.1 346999 1932 3594 113270 1952
64989 99.0 365385 1870 3547 115094 1953
63761 100.0 363112 3578 3350 116219 1954
66019 101.2 397469 2904 3048 117388 1955
67857 104.6 419180 2822 2857 118734 1956
68169 108.4 442769 2936 2798 120445 1957
66513 110.8 444546 4681 2637 121950 1958
68655 112.6 482704 3813 2552 123366 1959
69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961
70551 116.9 554894 4007 2827 130081 1962
"""
# Certified: intercept and coefficients.
LONGLEY_BETA = (
    -3482258.63459582,
    15.0618722713733,
    -0.0358191792925910,
    -2.02022980381683,
    -1.03322686717359,
    -0.0511041056535807,
    1829.15146461355,
)


def longley() -> tuple[np.ndarray, np.ndarray]:
    """(X (16, 6), y)."""
    table = np.array([[float(word) for word in line.split()] for line in LONGLEY.split("\n") if line])
    return table[:, 1:], table[:, 0]


def real() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """(X, y, a feature that y rises with) of each set, columns and y of mean zero and deviation one; of linnerud waist
    by exercises."""
    from sklearn.datasets import load_diabetes, load_linnerud

    fitness = load_linnerud()
    sets = {
        "diabetes": (*load_diabetes(return_X_y=True), 2),
        "linnerud": (fitness.data, -fitness.target[:, 1], 1),
        "Longley": (*longley(), 1),
    }
    unit = lambda v: (v - v.mean(0)) / v.std(0)
    return {name: (unit(X), unit(y), feature) for name, (X, y, feature) in sets.items()}
