"""The same small network trained on the same digits in each framework, one program per file.

`fastnn.bench.cold_start` runs them as ``python -c`` in empty processes. Each reads ``x_train.npy``,
``y_train.npy``, ``x_test.npy`` and ``y_test.npy`` in its working folder (inputs in [0, 1], float32,
labels int64) and takes the settings from its arguments: the epochs, the batch, the rate, the momentum
and the units of the hidden layers. It leaves two times of `time.monotonic` behind, `imported` and
`trained`, and `accuracy` on the test rows. They are written as a user of each framework would who
wants it fast: no data loaders, whole epochs compiled where the framework can.
"""
