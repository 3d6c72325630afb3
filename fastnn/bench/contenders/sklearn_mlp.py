"""scikit-learn's MLPClassifier, where it can train the network (it has no batch norm)."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from fastnn.bench.contenders.base import Contender
from fastnn.bench.workloads import Task, Workload

# Arithmetic beside which half a millisecond of checking the data is 1%.
SPREAD = 2_000_000_000


class ScikitLearnSteps:
    """`partial_fit` over an epoch of copies of the batch, so that the cost of entering it is
    spread over as many steps as in a real epoch, or as make it small."""

    def __init__(self, workload: Workload) -> None:
        self.initial = workload.parameters()
        self.x, self.y = workload.data()
        self.epoch = min(workload.epoch_steps, max(2, SPREAD // workload.flops))
        self.xs, self.ys = np.tile(self.x, (self.epoch, 1)), np.tile(self.y, self.epoch)
        self.model = MLPClassifier(
            hidden_layer_sizes=workload.sizes[1:-1],
            activation=workload.activation,
            solver="sgd",
            alpha=0.0,
            batch_size=workload.batch,
            learning_rate_init=workload.lr,
            momentum=workload.momentum,
            nesterovs_momentum=False,
            shuffle=False,
        )
        self.model.partial_fit(self.x, self.y, classes=np.arange(workload.sizes[-1]))
        self.restore()

    def restore(self) -> None:
        for i, (w, b) in enumerate(zip(self.model.coefs_, self.model.intercepts_, strict=True)):
            w[...], b[...] = self.initial[f"w{i}"], self.initial[f"b{i}"]
        for velocity in self.model._optimizer.velocities:
            velocity.fill(0)

    def losses(self, count: int) -> list[float]:
        return [float(self.model.partial_fit(self.x, self.y).loss_) for _ in range(count)]

    def run(self, count: int) -> int:
        epochs = -(-count // self.epoch)
        for _ in range(epochs):
            self.model.partial_fit(self.xs, self.ys)
        return epochs * self.epoch


class ScikitLearn(Contender):
    """scikit-learn's `MLPClassifier`, on NumPy's BLAS and SciPy's."""

    label = "scikit-learn"

    def versions(self) -> dict[str, str]:
        return {"sklearn": sklearn.__version__}

    def refuses(self, task: Task) -> str | None:
        if not isinstance(task, Workload):
            return "runs whole steps only"
        return "has no batch norm" if task.batchnorm else None

    def steps(self, workload: Workload) -> ScikitLearnSteps:
        return ScikitLearnSteps(workload)
