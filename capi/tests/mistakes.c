/* Calls as they should not be: each is answered with a status and a text, and nothing crashes. */
#include <stdio.h>
#include <string.h>
#include "whorl.h"

static int failures = 0;

static void is(whorl_status found, whorl_status expected, const char *text, const char *what) {
    if (found != expected || strstr(whorl_last_error(), text) == NULL) {
        printf("%s: status %d instead of %d, '%s'\n", what, (int)found, (int)expected, whorl_last_error());
        failures++;
    }
}

#define IS(call, status, text) is((call), (status), (text), #call)

/* Every function with null in place of each pointer that it takes. */
static void nulls(void) {
    whorl_sender *sender = NULL;
    whorl_receiver *receiver = NULL;
    whorl_mailboxes *mailboxes = NULL;
    whorl_answers *answers = NULL;
    whorl_server *server = NULL;
    whorl_message message;
    whorl_answer answer;
    char buffer[8];
    size_t length;
    uint64_t version;
    bool armed;
    IS(whorl_sender_create(NULL, NULL, &sender), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_create("n", NULL, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_wait_for_receivers(NULL, 1, 0), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_send(NULL, "x", 1, 0), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_finish(NULL, 0, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_receiver_join(NULL, NULL, &receiver), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_receiver_join("n", NULL, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_receiver_recv(NULL, buffer, sizeof buffer, 0, &message), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_receiver_arm(NULL, &armed), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_mailboxes_attach(1, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_mailboxes_read(NULL, 0, buffer, sizeof buffer, 0, &length, &version), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_mailboxes_write(NULL, 0, "x", 1, 0, &version), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_mailboxes_version(NULL, 0, &version), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_mailboxes_wait(NULL, 0, 0, 0), WHORL_ERR_ARGUMENT, "null");
    whorl_server_options good = {sizeof good, ".", "x", 1, "x", 1, NULL, 0, NULL};
    whorl_server_options nowhere = good, no_socket_message = good, no_shm_message = good;
    nowhere.directory = NULL;
    no_socket_message.socket_message = NULL;
    no_shm_message.shm_message = NULL;
    IS(whorl_server_start(NULL, &good, &server), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_server_start("n", NULL, &server), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_server_start("n", &nowhere, &server), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_server_start("n", &no_socket_message, &server), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_server_start("n", &no_shm_message, &server), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_server_start("n", &good, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_server_wait(NULL, 0, 0), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_discover(NULL, 0, &answers), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_discover(".", 0, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_answers_get(NULL, 0, &answer), WHORL_ERR_ARGUMENT, "null");
    if (whorl_sender_receivers(NULL) || whorl_receiver_max_message_len(NULL) || whorl_receiver_fd(NULL) != -1)
        failures++;
    if (whorl_mailboxes_count(NULL) || whorl_mailboxes_capacity(NULL) || whorl_server_port(NULL))
        failures++;
    if (whorl_server_clients(NULL) || whorl_answers_count(NULL))
        failures++;
    whorl_sender_destroy(NULL);
    whorl_receiver_destroy(NULL);
    whorl_mailboxes_destroy(NULL);
    whorl_server_destroy(NULL);
    whorl_answers_destroy(NULL);
    if (sender || receiver || mailboxes || answers || server)
        failures++;
}

/* Options of a program that was built with an older or a newer header, or that forgot the size. */
static void versions(void) {
    whorl_sender *sender = NULL;
    struct {
        whorl_sender_options known;
        char unknown[64];
    } newer = {{sizeof newer, 64, 2, 0, NULL}, "what this library does not know"};
    IS(whorl_sender_create("v", &newer.known, &sender), WHORL_OK, "");
    IS(whorl_sender_send(sender, "twenty-five bytes, no less", 25, 0), WHORL_ERR_TOO_LONG, "25 bytes");
    whorl_sender_destroy(sender);
    sender = NULL;
    /* Of an older one only the size and the ring are there; the rest, which is not read, would be refused. */
    whorl_sender_options older = {sizeof(size_t) + sizeof(uint64_t), 64, 0xffff, 0, "nowhere/at/all"};
    IS(whorl_sender_create("v", &older, &sender), WHORL_OK, "");
    whorl_sender_destroy(sender);
    sender = NULL;
    whorl_sender_options forgotten = {0, 64, 2, 0, NULL};
    IS(whorl_sender_create("v", &forgotten, &sender), WHORL_ERR_ARGUMENT, "size 0");
    whorl_receiver_options strange = {sizeof strange, 7, 0, 20, NULL};
    whorl_receiver *receiver = NULL;
    IS(whorl_receiver_join("v", &strange, &receiver), WHORL_ERR_ARGUMENT, "no start 7");
    if (sender || receiver)
        failures++;
}

int main(void) {
    whorl_sender *sender = NULL;
    whorl_receiver *receiver = NULL;
    whorl_mailboxes *mailboxes = NULL;
    whorl_answers *answers = NULL;
    whorl_server *server = NULL;
    whorl_message message;
    char buffer[64] = "";
    whorl_sender_options small = {sizeof small, 64, 2, 0, NULL};
    whorl_sender_options odd = {sizeof odd, 32, 0, 0, NULL};
    whorl_receiver_options soon = {sizeof soon, WHORL_START_FIRST, 0, 20, NULL};
    whorl_receiver_options patient = {sizeof patient, WHORL_START_FIRST, 0, 1000, NULL};
    if (strcmp(whorl_last_error(), "") != 0)
        failures++;
    nulls();
    versions();
    IS(whorl_sender_create(NULL, NULL, &sender), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_create("a/b", NULL, &sender), WHORL_ERR_ARGUMENT, "1 to 64 letters");
    IS(whorl_sender_create("\xff", NULL, &sender), WHORL_ERR_ARGUMENT, "UTF-8");
    IS(whorl_sender_create("dipc-9000", NULL, &sender), WHORL_ERR_ARGUMENT, "belong to mailbox servers");
    IS(whorl_sender_create("m", &odd, &sender), WHORL_ERR_ARGUMENT, "power of two");
    IS(whorl_sender_create("m", NULL, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_send(NULL, "x", 1, 0), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_receiver_join("m", &soon, &receiver), WHORL_ERR_TIMED_OUT, "timed out");
    IS(whorl_receiver_recv(NULL, buffer, sizeof buffer, 0, &message), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_mailboxes_attach(1, &mailboxes), WHORL_ERR_NOT_FOUND, "port 1");
    IS(whorl_discover("nowhere/at all", 100, &answers), WHORL_ERR_SYSTEM, "no such file");
    whorl_server_options strange = {sizeof strange, "/dev/null/at all", NULL, 0, NULL, 0, NULL, 0, NULL};
    IS(whorl_server_start("m", &strange, &server), WHORL_ERR_SYSTEM, "not a directory");
    strange.directory = ".";
    strange.socket_length = 5;
    IS(whorl_server_start("m", &strange, &server), WHORL_ERR_ARGUMENT, "null");
    strange.socket_length = 0;
    strange.address = "nowhere";
    IS(whorl_server_start("m", &strange, &server), WHORL_ERR_ARGUMENT, "not an IP address");
    if (sender || receiver || mailboxes || answers || server)
        failures++;

    IS(whorl_sender_create("m", &small, &sender), WHORL_OK, "");
    whorl_sender *second = NULL;
    IS(whorl_sender_create("m", &small, &second), WHORL_ERR_IN_USE, "in use");
    IS(whorl_sender_wait_for_receivers(sender, 1, 20), WHORL_ERR_TIMED_OUT, "timed out");
    IS(whorl_sender_send(sender, NULL, 1, 0), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_send(sender, buffer, 25, 0), WHORL_ERR_TOO_LONG, "25 bytes");
    IS(whorl_receiver_join("m", &patient, &receiver), WHORL_OK, "");
    IS(whorl_sender_wait_for_receivers(sender, 1, 1000), WHORL_OK, "");
    IS(whorl_receiver_recv(receiver, buffer, sizeof buffer, 0, &message), WHORL_ERR_TIMED_OUT, "nothing new");
    IS(whorl_receiver_recv(receiver, NULL, 1, 0, &message), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_sender_send(sender, "0123456789", 10, 0), WHORL_OK, "");
    IS(whorl_receiver_recv(receiver, buffer, sizeof buffer, 0, NULL), WHORL_ERR_ARGUMENT, "null"); /* and it stays */
    IS(whorl_receiver_arm(receiver, NULL), WHORL_ERR_ARGUMENT, "null");
    IS(whorl_receiver_recv(receiver, buffer, 5, 0, &message), WHORL_ERR_TOO_LONG, "10 bytes");
    IS(whorl_receiver_recv(receiver, buffer, sizeof buffer, 0, &message), WHORL_OK, "");
    if (message.kind != WHORL_MSG_BYTES || message.length != 10 || memcmp(buffer, "0123456789", 10) != 0)
        failures++;
    IS(whorl_sender_send(sender, NULL, 0, 0), WHORL_OK, "");
    IS(whorl_sender_send(sender, buffer, 24, 0), WHORL_OK, "");
    IS(whorl_sender_send(sender, buffer, 24, 0), WHORL_ERR_TIMED_OUT, "the ring is full");
    IS(whorl_sender_send(sender, buffer, 24, 10), WHORL_ERR_TIMED_OUT, "timed out");
    whorl_sender_destroy(sender); /* without the end */
    IS(whorl_receiver_recv(receiver, buffer, sizeof buffer, 1000, &message), WHORL_OK, "");
    IS(whorl_receiver_recv(receiver, buffer, sizeof buffer, 1000, &message), WHORL_OK, "");
    IS(whorl_receiver_recv(receiver, buffer, sizeof buffer, 1000, &message), WHORL_ERR_SENDER_DIED, "died");
    whorl_receiver_destroy(receiver);
    whorl_sender_destroy(NULL);
    whorl_receiver_destroy(NULL);
    whorl_mailboxes_destroy(NULL);
    whorl_server_destroy(NULL);
    whorl_answers_destroy(NULL);
    if (whorl_receiver_fd(NULL) != -1 || whorl_mailboxes_count(NULL) != 0 || whorl_answers_count(NULL) != 0)
        failures++;
    printf("%d mistakes\n", failures);
    return failures != 0;
}
