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
    IS(whorl_send_create(NULL, 0, 0, 0, &sender), WHORL_ARGUMENT, "null");
    IS(whorl_send_create("n", 0, 0, 0, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_send_wait_receivers(NULL, 1, 0), WHORL_ARGUMENT, "null");
    IS(whorl_send_message(NULL, "x", 1, 0), WHORL_ARGUMENT, "null");
    IS(whorl_send_finish(NULL, 0, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_recv_join(NULL, false, 0, &receiver), WHORL_ARGUMENT, "null");
    IS(whorl_recv_join("n", false, 0, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_recv_message(NULL, buffer, sizeof buffer, 0, &message), WHORL_ARGUMENT, "null");
    IS(whorl_recv_arm(NULL, &armed), WHORL_ARGUMENT, "null");
    IS(whorl_mailbox_attach(1, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_mailbox_read(NULL, 0, buffer, sizeof buffer, 0, &length, &version), WHORL_ARGUMENT, "null");
    IS(whorl_mailbox_write(NULL, 0, "x", 1, 0, &version), WHORL_ARGUMENT, "null");
    IS(whorl_mailbox_version(NULL, 0, &version), WHORL_ARGUMENT, "null");
    IS(whorl_mailbox_wait(NULL, 0, 0, 0), WHORL_ARGUMENT, "null");
    IS(whorl_server_start(NULL, ".", "x", 1, "x", 1, &server), WHORL_ARGUMENT, "null");
    IS(whorl_server_start("n", NULL, "x", 1, "x", 1, &server), WHORL_ARGUMENT, "null");
    IS(whorl_server_start("n", ".", NULL, 1, "x", 1, &server), WHORL_ARGUMENT, "null");
    IS(whorl_server_start("n", ".", "x", 1, NULL, 1, &server), WHORL_ARGUMENT, "null");
    IS(whorl_server_start("n", ".", "x", 1, "x", 1, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_server_wait(NULL, 0, 0), WHORL_ARGUMENT, "null");
    IS(whorl_discover(NULL, 0, &answers), WHORL_ARGUMENT, "null");
    IS(whorl_discover(".", 0, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_discover_get(NULL, 0, &answer), WHORL_ARGUMENT, "null");
    if (whorl_send_receivers(NULL) || whorl_recv_longest(NULL) || whorl_recv_fd(NULL) != -1)
        failures++;
    if (whorl_mailbox_count(NULL) || whorl_mailbox_capacity(NULL) || whorl_server_port(NULL))
        failures++;
    if (whorl_server_clients(NULL) || whorl_discover_count(NULL))
        failures++;
    whorl_send_free(NULL);
    whorl_recv_free(NULL);
    whorl_mailbox_free(NULL);
    whorl_server_free(NULL);
    whorl_discover_free(NULL);
    if (sender || receiver || mailboxes || answers || server)
        failures++;
}

int main(void) {
    whorl_sender *sender = NULL;
    whorl_receiver *receiver = NULL;
    whorl_mailboxes *mailboxes = NULL;
    whorl_answers *answers = NULL;
    whorl_server *server = NULL;
    whorl_message message;
    char buffer[64];
    if (strcmp(whorl_last_error(), "") != 0)
        failures++;
    nulls();
    IS(whorl_send_create(NULL, 0, 0, 0, &sender), WHORL_ARGUMENT, "null");
    IS(whorl_send_create("a/b", 0, 0, 0, &sender), WHORL_ARGUMENT, "1 to 64 letters");
    IS(whorl_send_create("\xff", 0, 0, 0, &sender), WHORL_ARGUMENT, "UTF-8");
    IS(whorl_send_create("dipc-9000", 0, 0, 0, &sender), WHORL_ARGUMENT, "belong to mailbox servers");
    IS(whorl_send_create("m", 0, 3, 0, &sender), WHORL_ARGUMENT, "power of two");
    IS(whorl_send_create("m", 0, 0, 0, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_send_message(NULL, "x", 1, 0), WHORL_ARGUMENT, "null");
    IS(whorl_recv_join("m", false, 20, &receiver), WHORL_TIMED_OUT, "timed out");
    IS(whorl_recv_message(NULL, buffer, sizeof buffer, 0, &message), WHORL_ARGUMENT, "null");
    IS(whorl_mailbox_attach(1, &mailboxes), WHORL_NOTHING, "port 1");
    IS(whorl_discover("nowhere/at all", 100, &answers), WHORL_SYSTEM, "no such file");
    IS(whorl_server_start("m", "/dev/null/at all", NULL, 0, NULL, 0, &server), WHORL_SYSTEM, "not a directory");
    IS(whorl_server_start("m", ".", NULL, 5, NULL, 0, &server), WHORL_ARGUMENT, "null");
    if (sender || receiver || mailboxes || answers || server)
        failures++;

    IS(whorl_send_create("m", 16, 2, 2, &sender), WHORL_OK, "");
    whorl_sender *second = NULL;
    IS(whorl_send_create("m", 16, 2, 2, &second), WHORL_IN_USE, "in use");
    IS(whorl_send_wait_receivers(sender, 1, 20), WHORL_TIMED_OUT, "timed out");
    IS(whorl_send_message(sender, NULL, 1, 0), WHORL_ARGUMENT, "null");
    IS(whorl_send_message(sender, buffer, 17, 0), WHORL_TOO_LONG, "17 bytes");
    IS(whorl_recv_join("m", false, 1000, &receiver), WHORL_OK, "");
    IS(whorl_send_wait_receivers(sender, 1, 1000), WHORL_OK, "");
    IS(whorl_recv_message(receiver, buffer, sizeof buffer, 0, &message), WHORL_TIMED_OUT, "nothing new");
    IS(whorl_recv_message(receiver, NULL, 1, 0, &message), WHORL_ARGUMENT, "null");
    IS(whorl_send_message(sender, "0123456789", 10, 0), WHORL_OK, "");
    IS(whorl_recv_message(receiver, buffer, sizeof buffer, 0, NULL), WHORL_ARGUMENT, "null"); /* and it stays */
    IS(whorl_recv_arm(receiver, NULL), WHORL_ARGUMENT, "null");
    IS(whorl_recv_message(receiver, buffer, 5, 0, &message), WHORL_TOO_LONG, "10 bytes");
    IS(whorl_recv_message(receiver, buffer, sizeof buffer, 0, &message), WHORL_OK, "");
    if (message.kind != WHORL_BYTES || message.length != 10 || memcmp(buffer, "0123456789", 10) != 0)
        failures++;
    IS(whorl_send_message(sender, NULL, 0, 0), WHORL_OK, "");
    IS(whorl_send_message(sender, "x", 1, 0), WHORL_OK, "");
    IS(whorl_send_message(sender, "x", 1, 0), WHORL_TIMED_OUT, "timed out");
    whorl_send_free(sender); /* without the end */
    IS(whorl_recv_message(receiver, buffer, sizeof buffer, 1000, &message), WHORL_OK, "");
    IS(whorl_recv_message(receiver, buffer, sizeof buffer, 1000, &message), WHORL_OK, "");
    IS(whorl_recv_message(receiver, buffer, sizeof buffer, 1000, &message), WHORL_SENDER_DIED, "died");
    whorl_recv_free(receiver);
    whorl_send_free(NULL);
    whorl_recv_free(NULL);
    whorl_mailbox_free(NULL);
    whorl_server_free(NULL);
    whorl_discover_free(NULL);
    if (whorl_recv_fd(NULL) != -1 || whorl_mailbox_count(NULL) != 0 || whorl_discover_count(NULL) != 0)
        failures++;
    printf("%d mistakes\n", failures);
    return failures != 0;
}
