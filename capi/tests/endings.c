/* Calls while a thread or the program ends, and in a signal handler: everything works as it does before. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "whorl.h"

static pthread_key_t key;

/* A call that fails, one that works, and what there is to say of both. */
static void use(const char *where) {
    whorl_sender *sender = NULL;
    whorl_sender_options small = {sizeof small, 64, 2, 0, NULL};
    whorl_status wrong = whorl_sender_create("a/b", NULL, &sender);
    int said = strstr(whorl_last_error(), "1 to 64 letters") != NULL;
    whorl_status right = whorl_sender_create("e", &small, &sender);
    whorl_status sent = whorl_sender_send(sender, "x", 1, 0);
    whorl_status finished = whorl_sender_finish(sender, 1000, NULL);
    whorl_sender_destroy(sender);
    int good = wrong == WHORL_ERR_ARGUMENT && said && right == WHORL_OK && sent == WHORL_OK && finished == WHORL_OK;
    printf("%s: %s\n", where, good ? "good" : whorl_last_error());
    fflush(stdout);
}

static void in_destructor(void *round) {
    /* After the destructors that the library may have. */
    if ((size_t)round < 3)
        pthread_setspecific(key, (char *)round + 1);
    else
        use("destructor");
}

static void *thread(void *unused) {
    pthread_setspecific(key, (void *)1);
    whorl_sender_send(NULL, NULL, 0, 0);
    return unused;
}

static void at_exit(void) { use("exit"); }

static void in_handler(int signal) {
    static const char good[] = "handler: good\n";
    (void)signal;
    if (strstr(whorl_last_error(), "null") != NULL && strlen(whorl_version()) > 0)
        (void)!write(1, good, sizeof good - 1);
}

int main(void) {
    pthread_t started;
    atexit(at_exit);
    pthread_key_create(&key, in_destructor);
    pthread_create(&started, NULL, thread, NULL);
    pthread_join(started, NULL);
    whorl_sender_send(NULL, NULL, 0, 0);
    signal(SIGUSR1, in_handler);
    raise(SIGUSR1);
    /* Longer than any clock goes. */
    whorl_receiver *receiver = NULL;
    whorl_sender *sender = NULL;
    whorl_sender_create("e", NULL, &sender);
    whorl_receiver_options patient = {sizeof patient, WHORL_START_NOW, 0, UINT64_MAX, NULL};
    whorl_status joined = whorl_receiver_join("e", &patient, &receiver);
    printf("for ever: %s\n", joined == WHORL_OK ? "good" : whorl_last_error());
    whorl_receiver_destroy(receiver);
    whorl_sender_destroy(sender);
    whorl_answers *answers = NULL;
    printf("asked for ever: %d\n", whorl_discover(".", INT64_MAX, &answers));
    whorl_answers_destroy(answers);
    return 0;
}
