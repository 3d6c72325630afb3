"""When numbers stop being finite: noticing it, saying where, and going back.

A step whose loss is NaN or infinite is not made, so the model keeps the parameters from before it; nor is
one whose gradient is so, where the optimizer clips gradients by their norm and so looks at it.
An update can still overflow a parameter while the loss is finite; then the start of the epoch comes
back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .inputs import all_finite
from .layers.base import Layer
from .optimizers import Optimizer
from .plain_step import Outcome

if TYPE_CHECKING:
    from .models import Sequential

ADVICE = "try a smaller one, scale the inputs, or add BatchNorm"


class NonFiniteError(FloatingPointError):
    """A loss or a parameter became NaN or infinite during training.

    Attributes
    ----------
    layer : str
        The name of the first layer with such a value ("loss": only the loss itself; "gradient": the
        norm of the gradient, by which the optimizer clips it).
    epoch, step : int
        Where it happened: the epoch (from 1) and the step in it (from 1); 0 for `train_on_batch`.
    restored : bool
        Whether parameters, running statistics and optimizer state of the epoch's start came back;
        if not, the model has those from before the step, which were finite.
    """

    def __init__(
        self, message: str, layer: str = "", epoch: int = 0, step: int = 0, restored: bool = False
    ) -> None:
        super().__init__(message)
        self.layer, self.epoch, self.step, self.restored = layer, epoch, step, restored


class Snapshot:
    """Parameters, running statistics and optimizer state of a moment, to go back to."""

    def __init__(self, model: Sequential, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._live = [model.flat.state, *optimizer.state.values()]
        self._kept = [array.copy() for array in self._live]
        self._step_count = optimizer.step_count

    def take(self) -> None:
        """Remember how things stand now."""
        for kept, live in zip(self._kept, self._live, strict=True):
            kept[:] = live
        self._step_count = self._optimizer.step_count

    def restore(self) -> None:
        """Bring everything back."""
        for kept, live in zip(self._kept, self._live, strict=True):
            live[:] = kept
        self._optimizer.step_count = self._step_count


def not_finite(model: Sequential) -> tuple[Layer, str] | None:
    """The first layer with a NaN or infinite parameter or statistic, and its name."""
    if all_finite(model.flat.state):
        return None
    for layer in model.layers:
        for name, array in (*layer.parameters.items(), *layer.buffers.items()):
            if not all_finite(array):
                return layer, name
    return None


def check_parameters(model: Sequential) -> None:
    """Raise ValueError where a model that is to be trained holds NaN or infinity already."""
    if (found := not_finite(model)) is not None:
        layer, name = found
        raise ValueError(
            f"{name} of layer {layer.label} holds NaN or infinity before training begins: load the "
            "model again, or put back a state that you kept with set_state"
        )


def loss_error(
    model: Sequential, outcome: Outcome, epoch: int, step: int, lr: float, restored: bool
) -> NonFiniteError:
    """The error for a loss, or for the norm of a gradient, that is not finite."""
    layer = outcome.failure or "loss"
    label = next((la.label for la in model.layers if la.name == layer), None)
    where = f"first in the output of layer {label}" if label else f"first in the {layer} itself"
    when = f" in epoch {epoch}, step {step}" if epoch else ""
    if restored:
        kept = (
            "the parameters had overflowed; those of the epoch's start are back, with running "
            "statistics and optimizer state"
        )
    else:
        kept = "this step was not made, the model keeps the parameters from before it"
    what = f"the loss became {outcome.last_loss}{when}, {where}"
    if layer == "gradient":
        what = f"the norm of the gradient became NaN or infinite{when}"
    return NonFiniteError(
        f"{what}: {kept}. The learning rate was {lr:g}: {ADVICE}",
        layer,
        epoch,
        step,
        restored,
    )


def parameter_error(where: tuple[Layer, str], epoch: int, step: int, lr: float) -> NonFiniteError:
    """The error for a parameter that is not finite."""
    layer, name = where
    return NonFiniteError(
        f"{name} of layer {layer.label} became NaN or infinite in epoch {epoch}: the parameters "
        "of the epoch's start are back, with running statistics and optimizer state. "
        f"The learning rate was {lr:g}: {ADVICE}",
        layer.name,
        epoch,
        step,
        restored=True,
    )
