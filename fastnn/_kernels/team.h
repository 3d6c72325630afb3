/* A team of threads working through a list of operations, block by block.
 *
 * One word, `place`, says which operation is running and which of its blocks is next.  A thread
 * takes a block by moving the word on; whoever finishes the last block of an operation moves the
 * word to the next operation.  So there is no barrier that all threads must reach: a thread that
 * the system has taken off its core holds up nothing but the block it is working on, a late one
 * joins where the others are, and the list ends the same with one thread as with sixty-four.
 * A thread that finds no block spins a little, then yields its core.
 *
 * An operation may stop the list (a loss that is not finite, Ctrl-C): `stop` is read before every
 * block; blocks not yet begun are then dropped.
 *
 * Opened by Cython (machine.pyx), which has parallel regions but neither atomics nor
 * barriers; this file has no other use.
 */
#ifndef FNN_TEAM_H
#define FNN_TEAM_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#if defined(_WIN32)
#include <windows.h>
#define fnn_yield() SwitchToThread()
#else
#include <sched.h>
#define fnn_yield() sched_yield()
#endif
#if defined(__x86_64__) || defined(_M_X64)
#define fnn_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define fnn_pause() __asm__ volatile("yield")
#else
#define fnn_pause() ((void)0)
#endif
#define FNN_SPINS 2000 /* pauses before the first yield: a few tens of microseconds */

enum { FNN_STOP_FAILURE = 1, FNN_STOP_CANCEL = 2 };

typedef struct fnn_run fnn_run;
typedef struct fnn_op fnn_op;
/* Runs one block of an operation; workspace is the calling thread's own. */
typedef void (*fnn_block)(const fnn_op *op, ptrdiff_t block, void *workspace, fnn_run *run);
struct fnn_op {
    fnn_block block;
    ptrdiff_t blocks; /* at least 1 */
    const void *args;
};

struct fnn_run {
    const fnn_op *ops;
    int64_t count;  /* operations in the list */
    int64_t rounds; /* how often the list is run: the steps of a chunk */
    const volatile int *cancelled; /* set by the signal handler (process.h) */
    _Atomic int stop;
    int64_t stopped_at; /* the operation that set FNN_STOP_FAILURE */
    char pad[64];
    _Atomic uint64_t place; /* operation (over all rounds) << FNN_BLOCK_BITS | next block */
    char pad2[64];
    _Atomic int64_t done; /* blocks of the running operation that are finished */
};
/* Half each: 4e9 blocks, which is 6e10 rows in blocks of 16; and 4e9 operations, which is years of steps. */
#define FNN_BLOCK_BITS 32

/* Which round a running block belongs to: `place` cannot leave its operation before the block is done. */
static inline int64_t fnn_round_of(const fnn_run *run) {
    return (int64_t)(atomic_load_explicit(&((fnn_run *)run)->place, memory_order_relaxed) >> FNN_BLOCK_BITS) /
           run->count;
}
static inline void fnn_fail(fnn_run *run, const fnn_op *op) {
    run->stopped_at = op - run->ops;
    atomic_store(&run->stop, FNN_STOP_FAILURE);
}
static inline int fnn_stopped(fnn_run *run) {
    if (*run->cancelled) {
        int none = 0;
        atomic_compare_exchange_strong(&run->stop, &none, FNN_STOP_CANCEL);
    }
    return atomic_load_explicit(&run->stop, memory_order_relaxed);
}

static void fnn_run_serial(fnn_run *run, void *workspace) {
    for (int64_t round = 0; round < run->rounds; round++)
        for (int64_t i = 0; i < run->count; i++) {
            const fnn_op *op = run->ops + i;
            atomic_store_explicit(&run->place, (uint64_t)(round * run->count + i) << FNN_BLOCK_BITS,
                                  memory_order_relaxed);
            for (ptrdiff_t b = 0; b < op->blocks; b++) {
                if (fnn_stopped(run)) return;
                op->block(op, b, workspace, run);
            }
        }
}

static void fnn_run_member(fnn_run *run, void *workspace) {
    const uint64_t end = (uint64_t)(run->count * run->rounds);
    const uint64_t mask = ((uint64_t)1 << FNN_BLOCK_BITS) - 1;
    int spins = 0;
    for (;;) {
        uint64_t place = atomic_load_explicit(&run->place, memory_order_acquire);
        const uint64_t at = place >> FNN_BLOCK_BITS;
        if (at >= end || fnn_stopped(run)) return;
        const fnn_op *op = run->ops + at % (uint64_t)run->count;
        const ptrdiff_t block = (ptrdiff_t)(place & mask);
        if (block >= op->blocks) {
            if (++spins < FNN_SPINS) fnn_pause();
            else fnn_yield();
            continue;
        }
        if (!atomic_compare_exchange_weak_explicit(&run->place, &place, place + 1, memory_order_acq_rel,
                                                   memory_order_relaxed))
            continue;
        spins = 0;
        op->block(op, block, workspace, run);
        if (atomic_fetch_add_explicit(&run->done, 1, memory_order_acq_rel) + 1 == op->blocks) {
            atomic_store_explicit(&run->done, 0, memory_order_relaxed);
            atomic_store_explicit(&run->place, (at + 1) << FNN_BLOCK_BITS, memory_order_release);
        }
    }
}

#endif
