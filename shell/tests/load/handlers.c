/* Handlers that do nothing, and do not have calls restarted: every call that one of these signals meets ends with EINTR.
   To be preloaded. */
#include <signal.h>
#include <stddef.h>

static void nothing(int signal) { (void)signal; }

__attribute__((constructor)) static void install(void) {
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGWINCH, SIGURG};
    struct sigaction action = {.sa_handler = nothing};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}
