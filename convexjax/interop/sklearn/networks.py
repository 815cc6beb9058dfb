"""Multilayer perceptrons, trained by minibatches (extra `nn`)."""

import warnings
from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from convexjax.interop.sklearn.data import (
    Samples,
    columns,
    encoded,
    filled,
    new_samples,
    number,
    precision,
    rows,
    samples,
)
from convexjax.learn import networks, training

# The batch of batch_size="auto".
BATCH = 200


class _Network(BaseEstimator):
    """What both share. Targets are columns, behind them the weight of the sample."""

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        alpha=1e-4,
        batch_size="auto",
        learning_rate_init=1e-3,
        max_iter=200,
        random_state=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        dropout=0.0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dropout = dropout

    def _train(self, data: Samples, targets: np.ndarray, outputs: int, loss, labels=None) -> None:
        """Train on targets (n, k); `labels` are to be in the validation data in equal shares."""
        X, dtype = data.X, data.X.dtype
        draw = check_random_state(self.random_state)
        seed = int(draw.randint(np.iinfo(np.int32).max))
        alpha = number("alpha", self.alpha, dtype)
        rate = float(number("learning_rate_init", self.learning_rate_init, dtype, above=0))
        chosen, held_out = np.arange(len(X)), None
        if self.early_stopping:
            chosen, held_out = train_test_split(
                chosen, test_size=self.validation_fraction, random_state=seed, stratify=labels
            )
        size, total = filled(len(chosen)), data.weights[chosen].sum()
        batch = BATCH if self.batch_size == "auto" else self.batch_size
        whole = batch >= len(chosen)
        self._architecture = (outputs, _widths(self.hidden_layer_sizes), self.activation, self.dropout)
        self.coefs_, self.intercepts_ = _first_parameters(draw, [X.shape[1], *self._architecture[1], outputs], dtype)
        # optax mixes integers with floating numbers
        with precision(dtype), jax.numpy_dtype_promotion("standard"):
            apply, params = self._network()
            trained = training.fit(
                apply,
                params,
                rows(columns(X[chosen])),
                _targets(targets, data.weights, chosen),
                jax.random.key(seed),
                loss=loss,
                optimizer=_adam(rate),
                epochs=self.max_iter,
                batch_size=size if whole else batch,
                regulariser=_weight_squares,
                gamma=alpha / np.asarray(total if whole else batch, dtype),
                validation=None if held_out is None else _validation(data, targets, held_out),
                patience=None if held_out is None else self.n_iter_no_change,
            )
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(trained.params)]
        leaves[0] = leaves[0][:, : X.shape[1]]
        self.coefs_ = [leaf.T for leaf in leaves[::2]]
        self.intercepts_ = leaves[1::2]
        self.n_iter_ = int(trained.num_epochs)
        self.loss_curve_ = np.asarray(trained.history.loss)[: self.n_iter_]
        self.ending_ = training.Ending(int(trained.ending))
        if self.ending_ == training.Ending.NOT_FINITE:
            warnings.warn(f"{type(self).__name__} {trained.report()}", ConvergenceWarning, stacklevel=3)

    def _network(self) -> tuple:
        """(apply, params) for X with columns filled up, which have weights of zero and keep them."""
        leaves = [leaf for pair in zip(self.coefs_, self.intercepts_, strict=True) for leaf in (pair[0].T, pair[1])]
        leaves[0] = columns(leaves[0])
        apply, structure = _template(leaves[0].shape[1], *self._architecture, leaves[0].dtype.name)
        return apply, jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])

    def _outputs_of(self, X) -> np.ndarray:
        """Outputs (n, k) for the rows of X."""
        X = new_samples(self, X)
        dtype = self.coefs_[0].dtype
        with precision(dtype):
            apply, params = self._network()
            outputs = training.predict(apply, params, rows(columns(X.astype(dtype))))
        return np.asarray(outputs)[: len(X)]


def _widths(sizes) -> tuple[int, ...]:
    sizes = (sizes,) if isinstance(sizes, int | np.integer) else tuple(sizes)
    if not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be positive integers, got {sizes!r}.")
    return tuple(int(size) for size in sizes)


def _first_parameters(draw, sizes, dtype) -> tuple[list, list]:
    """(weights (inputs, outputs), offsets (outputs,)) of each layer, uniform within inputs^(-1/2)."""
    coefs, intercepts = [], []
    for before, after in pairwise(sizes):
        bound = before**-0.5
        coefs.append(draw.uniform(-bound, bound, (before, after)).astype(dtype))
        intercepts.append(draw.uniform(-bound, bound, after).astype(dtype))
    return coefs, intercepts


# The same functions for the same networks, so that their programs are compiled once.
@cache
def _template(inputs, outputs, widths, activation, dropout, dtype) -> tuple:
    """(apply, the structure of the parameters)."""
    activation = "sigmoid" if activation == "logistic" else activation
    how = dict(width=list(widths), activation=activation, dropout=dropout, dtype=jnp.dtype(dtype))
    network = networks.mlp(jax.random.key(0), inputs, outputs, **how)
    return network.apply, jax.tree.structure(network.params)


@cache
def _adam(rate: float):
    return optax.adam(rate)


def _targets(targets, weights, chosen) -> np.ndarray:
    """Targets, and weights of mean one over all rows, those that are filled up too."""
    own = weights[chosen]
    size = filled(len(chosen))
    return rows(np.column_stack([targets[chosen], own * (size / own.sum())]).astype(weights.dtype), size)


def _validation(data: Samples, targets, chosen) -> tuple:
    return rows(columns(data.X[chosen])), _targets(targets, data.weights, chosen)


def _weight_squares(params):
    """Half the sum of squares of the weights of layers, not of their offsets."""
    return sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(params) if leaf.ndim == 2) / 2


def _cross_entropy(outputs, targets):
    labels = targets[:, 0].astype(jnp.int32)
    return targets[:, 1] * optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def _squared(outputs, targets):
    return targets[:, -1] * jnp.mean((outputs - targets[:, :-1]) ** 2, 1) / 2


class NetworkClassifier(ClassifierMixin, _Network):
    """A perceptron for two or more classes, as `sklearn.neural_network.MLPClassifier`.

        minimise    1/(sum w) sum_i w_i cross_entropy(network(x_i), y_i) + alpha/2 |weights|^2 / size of a batch

    by optax.adam. Not convex: nothing is proved of the result.

    Arguments:
        hidden_layer_sizes: the widths of the hidden layers.
        activation: one of `learn.networks.ACTIVATIONS`, or a function.
        alpha: nonnegative.
        batch_size: samples of a step; "auto" for 200. Where it is no smaller than n, a step takes all of them, and a
            sample of weight 2 is the same as two samples.
        learning_rate_init: of Adam.
        max_iter: epochs, at most.
        random_state: of first parameters, order and dropout.
        early_stopping, validation_fraction, n_iter_no_change: end if the loss of samples held out has not fallen for so
            many epochs, with the parameters for which it was lowest.
        dropout: the probability with which a hidden value is left out in training.

    `coefs_`, `intercepts_`, `loss_curve_`, `n_iter_`, and `ending_`, a `learn.training.Ending`; numbers that are not
    finite are a ConvergenceWarning. Source: `convexjax.learn.training`.

    >>> import numpy as np
    >>> from convexjax.interop.sklearn import NetworkClassifier
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model = NetworkClassifier((16,), learning_rate_init=0.05, random_state=0).fit(X, ["no", "yes", "yes", "no"])
    >>> print(model.predict(X))
    ['no' 'yes' 'yes' 'no']
    """

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), labels (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight, labels=True)
        self.classes_, index, _ = encoded(data.y, None, data.weights)
        self._train(data, index[:, None], int(self.classes_.size), _cross_entropy, index)
        return self

    def predict_proba(self, X):
        """Probabilities (n, classes)."""
        scores = self._outputs_of(X)
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def predict(self, X):
        """The most probable labels (n,)."""
        best = self._outputs_of(X).argmax(1)
        return self.classes_[best]


class NetworkRegressor(RegressorMixin, _Network):
    """A perceptron for one or many outputs, as `sklearn.neural_network.MLPRegressor`.

        minimise    1/(sum w) sum_i w_i |network(x_i) - y_i|^2 / (2 outputs) + alpha/2 |weights|^2 / size of a batch

    Arguments and the rest are those of `NetworkClassifier`.

    >>> import numpy as np
    >>> from convexjax.interop.sklearn import NetworkRegressor
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> model = NetworkRegressor((32,), learning_rate_init=0.05, random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.99)
    True
    """

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), y (n,) or (n, q) and weights (n,)."""
        data = samples(self, X, y, sample_weight, outputs=True)
        targets = data.y if data.y.ndim == 2 else data.y[:, None]
        self._single = data.y.ndim == 1
        self._train(data, targets, targets.shape[1], _squared)
        return self

    def predict(self, X):
        """Predictions (n,) or (n, q) for the rows of X."""
        outputs = self._outputs_of(X)
        return outputs[:, 0] if self._single else outputs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
