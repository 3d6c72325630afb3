"""What type checkers see of `fastnn`: the names that `__init__.py` loads when they are first used."""

from fastnn import datasets as datasets
from fastnn import functional as functional
from fastnn import history as history
from fastnn import initializers as initializers
from fastnn import layers as layers
from fastnn import losses as losses
from fastnn import machine as machine
from fastnn import models as models
from fastnn import optimizers as optimizers
from fastnn import plots as plots
from fastnn import preprocessing as preprocessing
from fastnn import reference as reference
from fastnn import tables as tables
from fastnn import training as training
from fastnn.history import History as History
from fastnn.layers import ELU as ELU
from fastnn.layers import Activation as Activation
from fastnn.layers import BatchNorm as BatchNorm
from fastnn.layers import Dense as Dense
from fastnn.layers import Layer as Layer
from fastnn.layers import LeakyReLU as LeakyReLU
from fastnn.layers import ReLU as ReLU
from fastnn.layers import Sigmoid as Sigmoid
from fastnn.layers import Tanh as Tanh
from fastnn.losses import Loss as Loss
from fastnn.losses import MeanSquaredError as MeanSquaredError
from fastnn.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from fastnn.machine import available_isas as available_isas
from fastnn.machine import get_num_threads as get_num_threads
from fastnn.machine import isa as isa
from fastnn.machine import set_num_threads as set_num_threads
from fastnn.machine import show_config as show_config
from fastnn.machine import threads as threads
from fastnn.models import Sequential as Sequential
from fastnn.optimizers import SGD as SGD
from fastnn.optimizers import Adagrad as Adagrad
from fastnn.optimizers import Adam as Adam
from fastnn.optimizers import AdamW as AdamW
from fastnn.optimizers import Optimizer as Optimizer
from fastnn.optimizers import RMSProp as RMSProp
from fastnn.recovery import NonFiniteError as NonFiniteError
from fastnn.serialization import ModelFileError as ModelFileError
from fastnn.serialization import load as load

__version__: str
