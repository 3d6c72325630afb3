/* What belongs to the process, not to a run: Ctrl-C, forks, aligned memory.  Included by machine.pyx alone. */
#ifndef FNN_PROCESS_H
#define FNN_PROCESS_H
#include <stddef.h>
#include <stdlib.h>
#if defined(_WIN32)
#include <malloc.h>
#else
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#endif

static volatile int fnn_cancelled = 0;

/* Ctrl-C while the GIL is released: the handler of Python only leaves a note for the interpreter, so
 * a handler of ours goes before it, sets the flag that the team reads, and calls Python's. */
#if defined(_WIN32)
static void fnn_catch_interrupt(void) {}
static void fnn_release_interrupt(void) {}
#else
static struct sigaction fnn_previous;
static int fnn_catching = 0;
static void fnn_on_interrupt(int number) {
    fnn_cancelled = 1;
    if (fnn_previous.sa_handler != SIG_DFL && fnn_previous.sa_handler != SIG_IGN) fnn_previous.sa_handler(number);
}
static void fnn_catch_interrupt(void) {
    struct sigaction ours, now;
    fnn_cancelled = 0;
    /* only in front of a plain handler that is there: SIG_DFL and SIG_IGN mean what they say */
    if (sigaction(SIGINT, NULL, &now) || (now.sa_flags & SA_SIGINFO) || now.sa_handler == SIG_DFL ||
        now.sa_handler == SIG_IGN || now.sa_handler == fnn_on_interrupt)
        return;
    fnn_previous = now;
    ours = now;
    ours.sa_handler = fnn_on_interrupt;
    if (!sigaction(SIGINT, &ours, NULL)) fnn_catching = 1;
}
static void fnn_release_interrupt(void) {
    if (fnn_catching) sigaction(SIGINT, &fnn_previous, NULL);
    fnn_catching = 0;
    fnn_cancelled = 0;
}
#endif

/* A forked child must not open a team: libgomp's threads did not come along, and it would wait for them. */
static int fnn_forked = 0;
#if defined(_WIN32)
static void fnn_watch_forks(void) {}
#else
static void fnn_after_fork(void) { fnn_forked = 1; }
static void fnn_watch_forks(void) { pthread_atfork(NULL, NULL, fnn_after_fork); }
#endif

/* Memory on cache-line boundaries, and for much of it on huge pages, where Linux has them (fastnn/memory.py says why). */
#define FNN_HUGE_PAGE ((size_t)1 << 21)
static void *fnn_alloc(size_t bytes) {
    bytes = (bytes + 63) & ~(size_t)63;
#if defined(_WIN32)
    return _aligned_malloc(bytes ? bytes : 64, 64);
#else
    void *p = NULL;
#if defined(MADV_HUGEPAGE)
    if (bytes >= FNN_HUGE_PAGE / 2) {
        const size_t whole = (bytes + FNN_HUGE_PAGE / 2) / FNN_HUGE_PAGE * FNN_HUGE_PAGE;
        if (posix_memalign(&p, FNN_HUGE_PAGE, bytes > whole ? bytes : whole)) return NULL;
        madvise(p, whole, MADV_HUGEPAGE); /* refused, the pages are small ones */
        return p;
    }
#endif
    return posix_memalign(&p, 64, bytes ? bytes : 64) ? NULL : p;
#endif
}
static void fnn_free(void *p) {
#if defined(_WIN32)
    _aligned_free(p);
#else
    free(p);
#endif
}
#endif
