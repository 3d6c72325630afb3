"""Measure fastnn beside its peers, from an installed wheel: the engine behind ``fastnn bench``.

How a comparison is made, in the order in which it happens:

1. `workloads` says what is measured: whole training steps, matrix products, single kernels.
2. `worker` is one process per contender, pinned to the same cores, with the same number of threads.
   Two frameworks in one process would fight over the cores with their thread pools.
3. `contenders` builds the same network from the same initial weights in each framework; the losses
   of the first steps must agree, or the pair is refused.
4. `pairs` alternates short rounds, so that a change in the machine's speed meets both sides, and
   takes the median of the paired ratios.
5. `peak` measures what the core could do, in the same minutes.
6. `report` prints the table and writes JSON and CSV.

Only NumPy is needed; every peer is optional.
"""
