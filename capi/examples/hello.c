/* A whole round in C: a channel, mailboxes if a server is there, a server and asking for it.
 *
 *     packaging/c $PWD/target/c
 *     cc -I target/c/include capi/examples/hello.c -L target/c/lib -lwhorl_c -Wl,-rpath,$PWD/target/c/lib -o hello
 *     ./hello DIRECTORY [PORT of a mailbox server]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "whorl.h"

/* Ends the program, saying what failed. */
static void must(whorl_status status, const char *what) {
    if (status != WHORL_OK) {
        fprintf(stderr, "%s: %s (%d)\n", what, whorl_last_error(), (int)status);
        exit(1);
    }
}

/* In a process of its own: receives until the end. */
static int receive(void) {
    whorl_receiver *receiver = NULL;
    whorl_receiver_options options = {.size = sizeof options, .timeout_ms = 10000};
    must(whorl_receiver_join("hello-c", &options, &receiver), "join");
    size_t room = whorl_receiver_max_message_len(receiver);
    char *buffer = malloc(room);
    whorl_message message;
    do {
        must(whorl_receiver_recv(receiver, buffer, room, 10000, &message), "receive");
        if (message.kind == WHORL_MSG_BYTES)
            printf("received: %.*s\n", (int)message.length, buffer);
    } while (message.kind != WHORL_MSG_END);
    printf("end after %llu bytes\n", (unsigned long long)message.length);
    free(buffer);
    whorl_receiver_destroy(receiver);
    return 0;
}

static void send_and_receive(void) {
    fflush(stdout);
    pid_t child = fork(); /* before the library has made anything in this process */
    if (child == 0) {
        int code = receive();
        fflush(stdout);
        _exit(code);
    }
    whorl_sender *sender = NULL;
    whorl_sender_options options = {.size = sizeof options, .ring = 8192, .seats = 4};
    must(whorl_sender_create("hello-c", &options, &sender), "create");
    must(whorl_sender_wait_for_receivers(sender, 1, 10000), "wait");
    const char *words[] = {"hello", "from C", ""};
    for (int i = 0; i < 3; i++)
        must(whorl_sender_send(sender, words[i], strlen(words[i]), -1), "send");
    whorl_peer_summary summary;
    must(whorl_sender_finish(sender, 10000, &summary), "finish");
    whorl_sender_destroy(sender);
    int status = 1;
    waitpid(child, &status, 0);
    printf("%llu receiver has everything, it ended with %d\n", (unsigned long long)summary.done, status);
    if (status != 0)
        exit(1);
}

static void mailboxes(unsigned short port) {
    whorl_mailboxes *mailboxes = NULL;
    must(whorl_mailboxes_attach(port, &mailboxes), "attach");
    unsigned long long before = 0;
    uint64_t version = 0;
    must(whorl_mailboxes_version(mailboxes, 1, &version), "version");
    before = version;
    must(whorl_mailboxes_write(mailboxes, 1, "a letter", 8, -1, &version), "write");
    must(whorl_mailboxes_wait(mailboxes, 1, before, 1000), "wait for news");
    char letter[64];
    size_t length = 0;
    whorl_status status = whorl_mailboxes_read(mailboxes, 1, letter, 3, -1, &length, NULL);
    printf("room for 3 bytes: %s, needs %zu\n", status == WHORL_ERR_TOO_LONG ? "too long" : "?", length);
    must(whorl_mailboxes_read(mailboxes, 1, letter, sizeof letter, -1, &length, &version), "read");
    printf("mailbox 1 of %u, version %llu: %.*s\n", whorl_mailboxes_count(mailboxes),
           (unsigned long long)(version - before), (int)length, letter);
    whorl_mailboxes_destroy(mailboxes);
}

static void server_and_discovery(const char *directory) {
    whorl_server *server = NULL;
    whorl_server_options options = {.size = sizeof options,
                                    .directory = directory,
                                    .socket_message = "by TCP",
                                    .socket_length = 6,
                                    .shm_message = "by memory",
                                    .shm_length = 9};
    must(whorl_server_start("c-server", &options, &server), "start");
    whorl_server *second = NULL;
    whorl_status status = whorl_server_start("c-server", &options, &second);
    printf("a second one of that name: %s\n", status == WHORL_ERR_IN_USE ? "in use" : whorl_last_error());
    whorl_answers *answers = NULL;
    must(whorl_discover(directory, 5000, &answers), "discover");
    for (size_t i = 0; i < whorl_answers_count(answers); i++) {
        whorl_answer answer;
        must(whorl_answers_get(answers, i, &answer), "get");
        printf("server %s: '%.*s' and '%.*s'\n", answer.reach == WHORL_REACH_HOST ? "on this host" : "elsewhere",
               (int)answer.socket_length, (const char *)answer.socket_message, (int)answer.shm_length,
               (const char *)answer.shm_message);
    }
    whorl_answers_destroy(answers);
    must(whorl_server_wait(server, 1, 5000), "serve");
    printf("clients: %llu\n", (unsigned long long)whorl_server_clients(server));
    whorl_server_destroy(server);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: hello DIRECTORY [PORT]\n");
        return 2;
    }
    send_and_receive();
    if (argc > 2)
        mailboxes((unsigned short)atoi(argv[2]));
    server_and_discovery(argv[1]);
    return 0;
}
