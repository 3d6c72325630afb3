"""fastnn: neural-network kernels for the CPU under an API a student can read.

`fastnn.functional` holds the kernels, on NumPy arrays; `fastnn.Sequential` and the layers build and
train networks on them; `fastnn.reference` is the NumPy twin of every kernel.

Names are loaded when they are first used (PEP 562): importing fastnn costs next to nothing, and a
machine that cannot run the kernels hears of it in one clear error where they are asked for.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

#: Where each public name lives.
_HOME = {
    "machine": ("available_isas", "get_num_threads", "isa", "set_num_threads", "show_config", "threads"),
    "layers": (
        "Activation", "BatchNorm", "Dense", "Dropout", "ELU", "GELU", "HardSigmoid", "HardSwish", "HardTanh",
        "Layer", "LeakyReLU", "LogSoftmax", "Maxout", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax",
        "Softplus", "Tanh",
    ),
    "losses": (
        "BinaryCrossEntropy", "Huber", "Loss", "MeanAbsoluteError", "MeanSquaredError", "MulticlassHinge",
        "SoftmaxCrossEntropy",
    ),
    "models": ("Sequential",),
    "diagnosis": ("Doctor", "Finding", "diagnose"),
    "lr_range_test": ("learning_rate_range_test",),
    "optimizers": ("Adagrad", "Adam", "AdamW", "Optimizer", "RMSProp", "SGD"),
    "gradient_flow": ("GradientStatistics", "gradient_statistics"),
    "recorder": ("Recorder",),
    "recovery": ("NonFiniteError",),
    "report": ("write_report",),
    "serialization": ("ModelFileError", "load"),
    "history": ("History",),
    "gradient_check": ("gradcheck",),
    "statistics": ("activation_statistics",),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}
_MODULES = (
    "callbacks", "datasets", "diagnosis", "experiments", "functional", "gradient_check", "history",
    "initializers", "layers", "losses", "machine", "models", "optimizers", "plots", "preprocessing",
    "reference", "schedules", "sources", "statistics", "tables", "training",
)  # fmt: skip

__all__ = ["__version__", *sorted(_WHERE), *_MODULES]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        value = getattr(_import_module(f"fastnn.{_WHERE[name]}"), name)
    elif name in _MODULES:
        value = _import_module(f"fastnn.{name}")
    else:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
